"""What the model answers under each arm, what was left of the video, and how long its rows are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from experiments.kept import Kept, key_of
from experiments.rules.arms import Arm
from tokenprune.evaluation.generate import generate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY
from tokenprune.results.reuse import weights
from tokenprune.strategy import Condenser, Pipeline
from tokenprune.tasks.tinyvqa import TinyVQA
from tokenprune.tokens import VisualTokens

_LONGEST = 48  # tokens of an answer; descriptions take up to 40
_BATCH = 10


class Lengths(NamedTuple):
    """Norms of one video's rows, by address."""

    address: Int[Tensor, "n"]
    norm: Float[Tensor, "n"]

    @classmethod
    def of(cls, tokens: VisualTokens) -> Lengths:
        norm = tokens.features.float().norm(dim=-1)
        return cls(tokens.frame * tokens.cells + tokens.slot, norm)


@dataclass(frozen=True)
class Before(Condenser):
    """Changes nothing, and writes down how long the rows of each video are.

    Args:
        found: where to
    """

    found: list[Lengths]

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        self.found.append(Lengths.of(tokens))
        return tokens


@dataclass(frozen=True)
class After(Condenser):
    """The same, behind a method.

    Args:
        found: where to
    """

    found: list[Lengths]

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        self.found.append(Lengths.of(tokens))
        return tokens


class Sizes(NamedTuple):
    """Lengths of rows that enter the language model, each by the mean of the tokens in it."""

    median: float
    high: float  # that one row in twenty exceeds
    largest: float


class Measured(NamedTuple):
    """One sample under one arm."""

    score: float
    entering: float  # share of the visual tokens at the language model's input
    average: float  # and averaged over its layers
    sizes: Sizes | None  # None: nothing is left, or an allocator decides


@dataclass(frozen=True)
class Asking(Dataset[dict[str, list[Any]]]):
    """Measurements by key, a batch at a time; a process that asks loads the model once."""

    task: TinyVQA
    pending: Sequence[tuple[list[int], dict[str, Pipeline]]]
    model: str
    dtype: str

    def __len__(self) -> int:
        return len(self.pending)

    def __getitem__(self, place: int) -> dict[str, list[Any]]:
        model, processor = self._loaded
        indices, asked = self.pending[place]
        samples = [self.task[index] for index in indices]
        inputs = processor.encode([(sample.frames, sample.full_question) for sample in samples])
        settings = {"max_new_tokens": _LONGEST, **GREEDY}
        found: dict[str, list[Any]] = {}
        for key, pipeline in asked.items():
            before, after = Before([]), After([])
            # an allocator redistributes one budget, and these would count as two more
            watched = (before, *pipeline.strategies, after)
            whole = pipeline if pipeline.allocator else Pipeline(watched)
            made = generate(model, whole, processor, inputs, settings)
            found[key] = [
                Measured(
                    self.task.score(text, sample),
                    made.report[row].input_ratio,
                    made.report[row].layer_average_ratio,
                    sizes(before.found[row], after.found[row], made.report[row].members)
                    if after.found
                    else None,
                )
                for row, (text, sample) in enumerate(zip(made.texts, samples, strict=True))
            ]
        return found

    @cached_property
    def _loaded(self) -> Any:
        return load(self.model, self.dtype, "cpu")


def sizes(before: Lengths, after: Lengths, members: Sequence[Tensor] = ()) -> Sizes | None:
    """None where nothing is left. `members` says, of a video, which rows its tokens went into."""
    number = len(after.norm)
    if not number:
        return None
    own = torch.zeros(1 + int(before.address.max())).scatter(0, before.address, before.norm)
    length = own[after.address]
    for row in members:  # of one video, if any
        norm, into = before.norm[row >= 0], row[row >= 0]
        of = torch.bincount(into, minlength=number)
        total = torch.zeros(number).index_add(0, into, norm)
        length = torch.where(of > 0, total / of, length)
    share = after.norm / length.clamp(min=1e-9)
    return Sizes(float(share.median()), float(share.quantile(0.95)), float(share.max()))


@dataclass(frozen=True)
class Answers:
    """Measurements that are kept in a file, so that an interrupted study goes on where it was."""

    file: Path
    task: TinyVQA
    model: str
    dtype: str

    def of(self, arms: Sequence[Arm]) -> list[list[Measured]]:
        """All samples under each arm."""
        indices = list(range(len(self.task)))
        batches = [indices[start : start + _BATCH] for start in indices[::_BATCH]]
        keys = [[self._key(arm, batch) for arm in arms] for batch in batches]
        kept = Kept(self.file)
        known, pending = kept.read(), []
        for batch, row in zip(batches, keys, strict=True):
            asked = {key: arm.pipeline for key, arm in zip(row, arms, strict=True)}
            if missing := {key: one for key, one in asked.items() if key not in known}:
                pending.append((batch, missing))
        asking = Asking(self.task, pending, self.model, self.dtype)
        known |= kept.ask(asking, "batch")
        return [
            [_measured(line) for row in keys for line in known[row[place]]]
            for place in range(len(arms))
        ]

    def _key(self, arm: Arm, batch: Sequence[int]) -> str:
        """Made of all that an answer depends on, the methods' files included."""
        files = [inspect.getsourcefile(type(one)) for one in arm.pipeline.strategies]
        sources = [Path(file or "").read_text(encoding="utf-8") for file in files]
        return key_of([self._asked, repr(arm.pipeline), sources, list(batch)])

    @cached_property
    def _asked(self) -> Mapping[str, Any]:
        return {
            "task": dict(self.task.fingerprint()),
            "weights": weights(self.model),
            "dtype": self.dtype,
            "max_new_tokens": _LONGEST,
        }


def _measured(line: Sequence[Any]) -> Measured:
    score, entering, average, lengths = line
    return Measured(score, entering, average, None if lengths is None else Sizes(*lengths))
