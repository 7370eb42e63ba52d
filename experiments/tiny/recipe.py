"""What every step of a training shows: a pure function of the seed and the step's number.

Steps differ in length of the videos and in the share of the visual tokens that stay. A model that
has only ever seen full grids of one length measures how rigid its positions are, not which evidence
a method keeps.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from experiments.tiny.labels import CELLS

_USUAL = 16  # frames of the videos that `Recipe.videos` counts
_LEAST = 0.2  # of the tokens, that stay
_UNEVEN = 0.7  # spread of the frames' advantages where they keep unevenly many tokens
_MUTE = 0.7  # share of the opening's steps without questions


@dataclass(frozen=True)
class Load:
    """The size of a step's batch; `keep` of the visual tokens stay, `uneven`ly over frames."""

    frames: int
    videos: int
    questions: int
    keep: float = 1.0
    uneven: bool = False


@dataclass(frozen=True)
class Recipe:
    """How steps are drawn.

    The first `opening` steps show single frames, at first without questions: a tower has to know
    shapes before a decoder can learn what becomes of them.
    """

    shares: dict[int, float]  # of the steps, by number of frames
    videos: int  # of 16 frames in a step; of other lengths as many as have as many frames
    questions: int  # about each video
    drop: float  # share of the steps in which tokens are missing
    opening: int
    seed: int

    def load(self, step: int) -> Load:
        """What step number `step` shows."""
        choice = random.Random(f"{self.seed}/{step}/load")
        if step < self.opening:
            asked = 0 if step < _MUTE * self.opening else self.questions // 2
            return Load(1, self.number(1) // 3, asked)
        (frames,) = choice.choices(list(self.shares), list(self.shares.values()))
        keep = choice.uniform(_LEAST, 1.0) if choice.random() < self.drop else 1.0
        return Load(frames, self.number(frames), self.questions, keep, choice.random() < 0.5)

    def number(self, frames: int) -> int:
        """Videos of so many frames in a step: its frames are about as many as those of others."""
        return max(2, round(self.videos * _USUAL / frames))

    def shelves(self, videos: int) -> dict[int, int]:
        """Videos of each length in a bank as large as `videos` of 16 frames.

        Every video is shown about equally often.
        """
        return {
            frames: max(self.number(frames), round(videos * share * _USUAL / frames))
            for frames, share in self.shares.items()
        }


def kept(load: Load, seed: int) -> Tensor:
    """Numbers of the visual tokens that stay, in order: int64 [b k]."""
    total = load.frames * CELLS
    if load.keep == 1.0:
        return torch.arange(total).expand(load.videos, -1)
    stream = Generator().manual_seed(seed)
    luck = torch.rand(load.videos, load.frames, CELLS, generator=stream)
    if load.uneven:
        luck += _UNEVEN * torch.randn(load.videos, load.frames, 1, generator=stream)
    stay = max(CELLS, round(load.keep * total))
    return luck.flatten(1).topk(stay).indices.sort().values
