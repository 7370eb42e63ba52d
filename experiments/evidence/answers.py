"""What the model answers when it sees chosen tokens only.

A mask is a strategy like any other, which the library carries on the stock model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from experiments.evidence.select import Mask
from experiments.kept import Kept, key_of
from tokenprune.evaluation.generate import generate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY
from tokenprune.results.reuse import weights
from tokenprune.strategy import Pipeline, VisionStage
from tokenprune.tasks.tinyvqa import TinyVQA
from tokenprune.tokens import VisualTokens

_WORTH = 8  # samples from which on processes are worth their start
Asked = dict[str, Mask]  # by the key of an answer


@dataclass(frozen=True)
class Chosen(VisionStage):
    """Keeps the tokens it is told, whatever they hold: a control that may know the answer.

    Args:
        places: those to keep, counted from the first frame's first, rising
        counts: how many of them each frame has
    """

    places: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, mask: Mask) -> Chosen:
        return cls(tuple(np.flatnonzero(mask).tolist()), tuple(mask.sum(1).tolist()))

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return torch.tensor(self.counts)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        return tokens[torch.tensor(self.places, dtype=torch.int64)]


@dataclass(frozen=True)
class Asking(Dataset[dict[str, float]]):
    """Scores by key, a sample at a time; a process that asks loads the model once."""

    task: TinyVQA
    pending: Sequence[tuple[int, Asked]]  # samples, and what is asked of each
    model: str
    dtype: str
    max_new_tokens: int

    def __len__(self) -> int:
        return len(self.pending)

    def __getitem__(self, place: int) -> dict[str, float]:
        model, processor = self._loaded
        index, masks = self.pending[place]
        sample = self.task[index]
        video = [(sample.frames, sample.full_question)]
        inputs = processor.encode(video)
        settings = {"max_new_tokens": self.max_new_tokens, **GREEDY}
        scores = {}
        for key, mask in masks.items():
            made = generate(model, Pipeline((Chosen.of(mask),)), processor, inputs, settings)
            scores[key] = self.task.score(made.texts[0], sample)
        return scores

    @cached_property
    def _loaded(self) -> Any:
        return load(self.model, self.dtype, "cpu")


@dataclass(frozen=True)
class Answers:
    """Scores that are kept in a file: the same tokens of the same sample are asked once."""

    file: Path
    task: TinyVQA
    model: str
    dtype: str
    max_new_tokens: int

    def key(self, index: int, mask: Mask) -> str:
        """Of one answer, made of all that it depends on."""
        seen = {"tokens": np.packbits(mask).tobytes().hex(), "of": list(mask.shape)}
        return key_of([self._asked, index, seen])

    def scores(self, wanted: Sequence[tuple[int, Mask]]) -> list[float]:
        """Of each sample under each mask, in order."""
        keys = [self.key(index, mask) for index, mask in wanted]
        kept = Kept(self.file)
        known = kept.read()
        missing: dict[int, Asked] = {}
        for key, (index, mask) in zip(keys, wanted, strict=True):
            if key not in known:
                missing.setdefault(index, {})[key] = mask
        pending = list(missing.items())
        asking = Asking(self.task, pending, self.model, self.dtype, self.max_new_tokens)
        known |= kept.ask(asking, "sample", _WORTH)
        return [known[key] for key in keys]

    @cached_property
    def _asked(self) -> Mapping[str, Any]:
        return {
            "task": dict(self.task.fingerprint()),
            "weights": weights(self.model),
            "dtype": self.dtype,
            "max_new_tokens": self.max_new_tokens,
        }
