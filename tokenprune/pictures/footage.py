"""The frames of a sample as a language model gets them, one picture each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from tokenprune.loading.media import Medium, media_of
from tokenprune.pixels import Cropped, Kind
from tokenprune.tasks import Sample

Picture = UInt8[Tensor, "_ _ 3"]  # of any size


@dataclass(frozen=True)
class Footage:
    """What figures show of a sample.

    Args:
        pictures: one of each frame of the language model, cut to the part that the model sees
        evidence: frames without which nobody can answer, where that is known
        question: what is asked
        answer: the right answer, where it is known
    """

    pictures: tuple[Picture, ...]
    evidence: tuple[int, ...] = ()
    question: str = ""
    answer: str = ""

    def __len__(self) -> int:
        return len(self.pictures)


def footage_of(sample: Sample, frames: Sequence[int], kind: Kind | None = None) -> Footage:
    """The footage of a sample whose videos have become so many `frames` of the language model.

    Where it gets pairs of pictures as one frame, the first of them stands for both. `kind` is how
    the model takes pictures; None: it sees them whole.
    """
    videos = [one.frames if isinstance(one, Medium) else one for one in media_of(sample.shown)]
    groups = _grouped(videos, len(frames))
    pictures: list[Picture] = []
    for group, count in zip(groups, frames, strict=True):
        places = [place * len(group) // count for place in range(count)]
        pictures += [seen(group[place], kind) for place in places]
    first, shown = frames[0], len(groups[0])
    evidence = dict.fromkeys(frame * first // shown for frame in sample.evidence)
    return Footage(tuple(pictures), tuple(evidence), sample.full_question, sample.answer)


def _grouped(media: Sequence[Tensor], number: int) -> list[list[Tensor]]:
    """The pictures of each video that was counted.

    Images are none or, where they were counted, too, videos of one frame behind the others; all
    videos are one where frames are images to the model.
    """
    videos = [[*one] for one in media if one.ndim == 4]
    images = [[one] for one in media if one.ndim == 3]
    if number == 1 and len(videos) > 1:
        return [[picture for video in videos for picture in video]]
    return (videos + images)[:number]


def seen(picture: Picture, kind: Kind | None) -> Picture:
    """The part of a picture that becomes tokens."""
    return kind.part(picture) if isinstance(kind, Cropped) else picture
