"""How a family takes videos: what its model gets of one, and what stands for it in a prompt.

A family's file declares it, as `VideoLLM.preparation`. It needs no model, only settings, and can be
sent to the processes that load data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from tokenprune.errors import LoadingError, PromptError
from tokenprune.pixels import Cropped, Kind, Pixels
from tokenprune.tokens import Video

Fixed = TypeVar("Fixed", bound=Pixels | Cropped)
# what stands for a video where the chat template has its marker: text, and as many placeholders
Written = tuple[str | int, ...]


class Shown(NamedTuple):
    """One video, prepared."""

    pixels: Shaped[Tensor, "..."]  # what the preparation made of its frames
    video: Video
    times: tuple[float, ...]  # seconds at which its frames appear


@dataclass(frozen=True)
class Preparation(ABC):
    """What a family makes of videos. Frozen and picklable; knows no model and no tokenizer."""

    pixels: Kind

    # what a chat template is asked to write: one `video`, or an `image` for each frame
    entry: ClassVar[Literal["video", "image"]] = "video"
    # what it writes for one; None: the placeholder itself
    marker: ClassVar[str | None] = None
    # whether one batch may hold videos of several lengths and sizes
    ragged: ClassVar[bool] = False
    # whether the tokens of a frame depend on the size of the video
    sized: ClassVar[bool] = False
    # the argument that says of every row what it is, and what a placeholder's row has there
    types: ClassVar[tuple[str, int] | None] = None

    @abstractmethod
    def video(self, frames: int, height: int, width: int) -> Video:
        """The uncompressed video at the LLM's input, from the frames of a clip and their size in
        pixels.
        """

    @abstractmethod
    def written(self, video: Video, times: Sequence[float]) -> tuple[Written, ...]:
        """What replaces each of the markers that a chat template writes for one video.

        `times` are the seconds of its `video.frames` frames, as `moments` gives them.
        """

    @abstractmethod
    def tensors(self, shown: Sequence[Shown]) -> dict[str, Tensor]:
        """The model's arguments for all videos of a batch, in order. Raises PromptError."""

    def moments(self, times: Sequence[float]) -> tuple[float, ...]:
        """Seconds of the LLM's frames, from those of a clip's frames."""
        return tuple(times)

    def rows(self, video: Video) -> int:
        """Placeholders of a video: its tokens, and what its model adds behind or between them."""
        pieces = chain.from_iterable(self.written(video, (0.0,) * video.frames))
        return sum(piece for piece in pieces if isinstance(piece, int))

    def prepared(
        self, frames: UInt8[Tensor, "f h w 3"], times: Sequence[float] | None = None
    ) -> Shown:
        """A clip as the model takes it; without `times` its frames are a second apart."""
        count, height, width, _ = frames.shape
        seconds = tuple(map(float, range(count) if times is None else times))
        return Shown(self.pixels(frames), self.video(count, height, width), seconds)


@dataclass(frozen=True)
class Frames(Preparation):
    """Every frame becomes one square of tokens, all in one run of placeholders: LLaVA.

    Args:
        side: tokens along a side of a frame
        beside: further rows of a frame that are not its cells: CLS, newlines
        behind: rows behind the last frame
    """

    side: int
    beside: int = 0
    behind: int = 0

    def video(self, frames: int, height: int, width: int) -> Video:
        return Video(frames, self.side, self.side)

    def written(self, video: Video, times: Sequence[float]) -> tuple[Written, ...]:
        return ((video.frames * (video.cells + self.beside) + self.behind,),)

    def tensors(self, shown: Sequence[Shown]) -> dict[str, Float[Tensor, "v f 3 h w"]]:
        lengths = sorted({one.video.frames for one in shown})
        if len(lengths) > 1:
            raise PromptError(
                f"one batch holds videos of {lengths} frames: choose as many of each, or batches "
                "of 1"
            )
        return {"pixel_values_videos": torch.stack([one.pixels for one in shown])}


@dataclass(frozen=True)
class Images(Preparation):
    """Every frame is an image between marks, and frames of all videos lie one behind another."""

    pixels: Pixels
    side: int  # tokens along a side of a frame

    ragged = True

    def video(self, frames: int, height: int, width: int) -> Video:
        return Video(frames, self.side, self.side)

    def tensors(self, shown: Sequence[Shown]) -> dict[str, Float[Tensor, "i 3 h w"]]:
        return {"pixel_values": torch.cat([one.pixels for one in shown])}


@dataclass(frozen=True)
class Numbered(Images):
    """Frames by their number, in lines of their own: InternVL."""

    marker = "<video>"
    start: ClassVar[str] = "<img>"
    end: ClassVar[str] = "</img>"

    def written(self, video: Video, times: Sequence[float]) -> tuple[Written, ...]:
        pieces: list[str | int] = []
        for number in range(1, video.frames + 1):
            line = "\n" if number > 1 else ""
            pieces += [f"{line}Frame{number}: {self.start}", video.cells, self.end]
        return (tuple(pieces),)


@dataclass(frozen=True)
class Announced(Images):
    """Frames as images that the chat template announces one by one: Gemma 3."""

    entry = "image"
    marker = start = "<start_of_image>"
    end: ClassVar[str] = "<end_of_image>"
    types = ("token_type_ids", 1)

    def written(self, video: Video, times: Sequence[float]) -> tuple[Written, ...]:
        image: Written = (f"\n\n{self.start}", video.cells, f"{self.end}\n\n")
        return (image,) * video.frames


def fit(pixels: Fixed, side: int) -> Fixed:
    """`pixels`, if they are what a tower of `side` x `side` pixels sees. Raises LoadingError."""
    if (pixels.height, pixels.width) != (side, side):
        raise LoadingError(
            f"the checkpoint prepares frames of {pixels.height}x{pixels.width} for a tower that "
            f"sees {side}x{side}: its preprocessor configuration belongs to another model"
        )
    return pixels
