"""Which rows of a prompt hold which visual token: one rule for every family.

The k-th placeholder of a sample stands for the k-th row of its videos, whatever text lies between.

Axes: `b` samples, `s` padded columns, `r` rows of one video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from tokenprune.errors import LayoutError
from tokenprune.sequence import BESIDE, TEXT
from tokenprune.tokens import Video

Array = np.ndarray
# of every placeholder row of a video, the number of its visual token (frame * cells + slot)
Pattern = Callable[[Video], Int[Array, "r"]]


class Rows(NamedTuple):
    """Where the visual tokens of an uncompressed, padded batch are; on the host."""

    frame: Int[Array, "b s"]  # counted through all videos of a sample; TEXT elsewhere
    slot: Int[Array, "b s"]  # cell of its frame; BESIDE on its newlines, 0 elsewhere
    videos: tuple[tuple[Video, ...], ...]  # by sample

    def with_images(self, images: Rows) -> Rows:
        """With the images of each sample as videos of one frame behind its own."""
        frames = [sum(video.frames for video in own) for own in self.videos]
        first = np.array(frames)[:, None]
        image = images.frame != TEXT
        both = zip(self.videos, images.videos, strict=True)
        return Rows(
            frame=np.where(image, images.frame + first, self.frame),
            slot=np.where(image, images.slot, self.slot),
            videos=tuple(videos + pictures for videos, pictures in both),
        )


def shared(counts: Sequence[int], videos: Sequence[Video], pattern: Pattern) -> list[list[Video]]:
    """The videos of each sample, from its number of placeholders and all videos in order.

    Beams and returned sequences share the videos of one sample: then there are several samples, one
    behind another, for each. Raises LayoutError where videos and placeholders do not fit.
    """
    if not any(counts):
        return [[] for _ in counts]
    lengths = [len(pattern(video)) for video in videos]
    copies, rest = divmod(sum(counts), max(1, sum(lengths)))
    if rest or not copies or len(counts) % copies:
        raise _unfit(counts, videos, lengths)
    waiting = iter(zip(videos, lengths, strict=True))
    held: list[list[Video]] = []
    for count in counts[::copies]:
        own: list[Video] = []
        while count > 0:
            video, length = next(waiting)
            own.append(video)
            count -= length
        if count:
            raise _unfit(counts, videos, lengths)
        held += [own] * copies
    return held


def one_each(
    counts: Sequence[int], frame_rows: int, video: Callable[[int], Video]
) -> list[list[Video]]:
    """One video for each sample that has placeholders, of `frame_rows` of them a frame.

    For families whose calls do not tell one video of a sample from the next. Raises LayoutError for
    a part of a frame.
    """
    if partial := sorted({count for count in counts if count % frame_rows}):
        raise LayoutError(
            f"the samples hold {partial} video placeholders, which are not a whole number of "
            f"frames of {frame_rows}: encode the prompt with the checkpoint's own processor, "
            "without chunked prefill"
        )
    return [[video(count // frame_rows)] if count else [] for count in counts]


def placed(
    placeholder: Bool[Array, "b s"], videos: Sequence[Sequence[Video]], pattern: Pattern
) -> Rows:
    """The rows of `videos`, which are as many as each sample has placeholders."""
    frame = np.full(placeholder.shape, TEXT, dtype=np.int64)
    slot = np.zeros(placeholder.shape, dtype=np.int64)
    for sample, own in enumerate(videos):
        frame[sample, placeholder[sample]], slot[sample, placeholder[sample]] = _table(own, pattern)
    return Rows(frame, slot, videos=tuple(tuple(own) for own in videos))


def _table(videos: Sequence[Video], pattern: Pattern) -> Int[Array, "2 r"]:
    """Frame and slot of the placeholder rows of one sample."""
    parts, first = [np.empty((2, 0), dtype=np.int64)], 0
    for video in videos:
        token = np.asarray(pattern(video))
        frame = np.where(token == TEXT, TEXT, token // video.cells + first)
        parts.append(np.stack([frame, np.where(token == TEXT, BESIDE, token % video.cells)]))
        first += video.frames
    return np.concatenate(parts, axis=1)


def sources(videos: Sequence[Sequence[Video]], shown: int) -> list[int]:
    """Of every video of a batch, in order, its number among those that the tower was `shown`.

    They are fewer `shown` tokens than the batch has where copied samples share their videos. Raises
    LayoutError where they are none of the batch's videos.
    """
    tokens = sum(video.tokens for own in videos for video in own)
    copies, rest = divmod(tokens, max(1, shown))
    if rest or not copies or len(videos) % copies:
        raise LayoutError(f"the tower was shown {shown} tokens of a prompt that has {tokens}")
    numbers: list[int] = []
    first = 0
    for own in videos[::copies]:
        numbers += [*range(first, first + len(own))] * copies
        first += len(own)
    return numbers


def spans(numbers: Sequence[int], sizes: Sequence[int]) -> list[slice]:
    """Where each video of a batch is in what the tower was shown, by its number there (`sources`).

    `sizes` are rows, or frames, of each; copies share those of the first.
    """
    shown: list[slice] = []
    for number, size in zip(numbers, sizes, strict=True):
        if number == len(shown):  # the first that shows it
            begin = shown[-1].stop if shown else 0
            shown.append(slice(begin, begin + size))
    return [shown[number] for number in numbers]


def _unfit(counts: Sequence[int], videos: Sequence[Video], lengths: Sequence[int]) -> LayoutError:
    found = sorted({count for count in counts if count})
    sizes = zip(videos, lengths, strict=True)
    needed = sorted(
        {f"{length} ({video.frames} frames of {video.cells} tokens)" for video, length in sizes}
    )
    return LayoutError(
        f"the samples hold {found} video placeholders, their videos need {', '.join(needed)}: "
        "encode the prompt with the checkpoint's own processor, without chunked prefill"
    )
