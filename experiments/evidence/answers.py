"""What the model answers when it sees chosen tokens only.

A mask is a strategy like any other, which the library carries on the stock model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from experiments.evidence.select import Mask
from tokenprune.evaluation.generate import generate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.device import cores
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
        text = json.dumps([self._asked, index, seen], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def scores(self, wanted: Sequence[tuple[int, Mask]]) -> list[float]:
        """Of each sample under each mask, in order."""
        keys = [self.key(index, mask) for index, mask in wanted]
        known = self._read()
        missing: dict[int, Asked] = {}
        for key, (index, mask) in zip(keys, wanted, strict=True):
            if key not in known:
                missing.setdefault(index, {})[key] = mask
        known |= self._ask(list(missing.items()))
        return [known[key] for key in keys]

    @cached_property
    def _asked(self) -> Mapping[str, Any]:
        return {
            "task": dict(self.task.fingerprint()),
            "weights": weights(self.model),
            "dtype": self.dtype,
            "max_new_tokens": self.max_new_tokens,
        }

    def _read(self) -> dict[str, float]:
        if not self.file.exists():
            return {}
        lines = self.file.read_text(encoding="utf-8").splitlines()
        return {key: score for line in lines for key, score in json.loads(line).items()}

    def _ask(self, pending: Sequence[tuple[int, Asked]]) -> dict[str, float]:
        """Line by line into the file, so that what was interrupted goes on where it was."""
        if not pending:
            return {}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        asking = Asking(self.task, pending, self.model, self.dtype, self.max_new_tokens)
        found: dict[str, float] = {}
        with self.file.open("a", encoding="utf-8") as out:
            for scores in _in_processes(asking):
                out.write(json.dumps(scores) + "\n")
                out.flush()
                found |= scores
        return found


def _in_processes(asking: Asking) -> Iterator[dict[str, float]]:
    # a process takes seconds to start
    workers = cores() if len(asking) >= _WORTH else 0
    context = "spawn" if workers else None
    loader = DataLoader(
        asking, batch_size=None, num_workers=workers, multiprocessing_context=context
    )
    yield from tqdm(loader, desc="asking", unit="sample", disable=None)
