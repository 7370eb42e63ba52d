"""What the model answers under each guide, and where each guide ranks the frame with the needle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from experiments.guide.costs import ASSISTANT, MODEL
from experiments.guide.settings import HOST, POOLS, SELF, Setting
from experiments.kept import Kept, key_of
from tokenprune import registry, strategies
from tokenprune.evaluation.generate import generate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY
from tokenprune.results.reuse import weights
from tokenprune.strategies.dytok import DyToK, frame_weights
from tokenprune.strategy import Allocator, Pipeline
from tokenprune.study.keyframes import NEEDLE, expected_reciprocal, reciprocal_rank
from tokenprune.tasks.tinyvqa import TinyVQA
from tokenprune.tokens import LastRow, Probe

_LONGEST = 48  # tokens of an answer; descriptions take up to 40
_BATCH = 10
_DTYPE = "float32"
NONE, RANDOM = "full model", "random"  # controls, beside HOST without a guide


@dataclass(frozen=True)
class Watching(Allocator):
    """DyToK that writes down each layer's weights, read in one pass.

    Args:
        pool: side of the squares that the guide sees as one
        found: where to, one for each sample: weights by layer
    """

    pool: int
    found: list[list[list[float]]] = field(hash=False, repr=False)

    def weigh(self, probe: Probe) -> Float[Tensor, "f"]:
        seen, layers = probe.pooled(self.pool), range(probe.depth)
        rows = seen.last_row(layers)
        by_layer = [
            frame_weights(
                LastRow(rows.queries[layer, None], rows.keys[layer, None]), seen.frame, seen.frames
            )
            for layer in layers
        ]
        self.found.append([weights.tolist() for weights in by_layer])
        return by_layer[-1]


class Job:
    """What is asked about some samples under one name; plain values come out, one per sample."""

    def __init__(self, pipeline: Pipeline, guide: str = SELF) -> None:
        self.pipeline, self.guide = pipeline, guide

    @property
    def key(self) -> str:
        return f"{self.guide} {self.pipeline!r}"


@dataclass(frozen=True)
class Asking(Dataset[dict[str, list[Any]]]):
    """Values by key, a batch at a time; a process that asks loads the models once."""

    task: TinyVQA
    pending: Sequence[tuple[list[int], dict[str, Job]]]
    watched: bool  # weights of frames, and no answers

    def __len__(self) -> int:
        return len(self.pending)

    def __getitem__(self, place: int) -> dict[str, list[Any]]:
        models, processor = self._loaded
        indices, asked = self.pending[place]
        samples = [self.task[index] for index in indices]
        inputs = processor.encode([(sample.frames, sample.full_question) for sample in samples])
        settings = {"max_new_tokens": 1 if self.watched else _LONGEST, **GREEDY}
        found: dict[str, list[Any]] = {}
        for key, job in asked.items():
            assistant = None if job.guide == SELF else models[job.guide]
            given = (models[MODEL], job.pipeline, processor, inputs, settings)
            made = generate(*given, assistant=assistant)
            if isinstance(allocator := job.pipeline.allocator, Watching):
                pairs = zip(allocator.found, samples, strict=True)
                found[key] = [[weights, list(sample.evidence)] for weights, sample in pairs]
                allocator.found.clear()
                continue
            found[key] = [
                [self.task.score(text, sample), made.report[row].layer_average_ratio]
                for row, (text, sample) in enumerate(zip(made.texts, samples, strict=True))
            ]
        return found

    @cached_property
    def _loaded(self) -> Any:
        torch.set_num_threads(1)
        loaded = {name: load(name, _DTYPE, "cpu") for name in (MODEL, ASSISTANT)}
        return {name: model for name, (model, _) in loaded.items()}, loaded[MODEL][1]


@dataclass(frozen=True)
class Answers:
    """Values that are kept in a file, so that an interrupted study goes on where it was."""

    file: Path
    keep: float

    def scores(
        self, task: TinyVQA, settings: Sequence[Setting]
    ) -> dict[str | Setting, Float[np.ndarray, "n 2"]]:
        """Score and kept share of all samples under each setting and each control."""
        jobs: dict[str | Setting, Job] = {
            NONE: Job(Pipeline()),
            RANDOM: Job(registry.build("random", {"random.keep": self.keep})),
            HOST: Job(registry.build(HOST, {f"{HOST}.keep": self.keep})),
        }
        jobs |= {one: Job(one.pipeline(self.keep), one.guide) for one in settings}
        values = self._of(task, range(len(task)), jobs, watched=False)
        return {name: np.array(found) for name, found in values.items()}

    def ranks(
        self, task: TinyVQA, settings: Sequence[Setting]
    ) -> dict[str | Setting, Float[np.ndarray, "n"]]:
        """Reciprocal ranks of needles' frames under each setting, and by chance."""
        asked = [*task.categories].index(NEEDLE)
        samples = range(asked, len(task), len(task.categories))
        guides = [*dict.fromkeys(one.guide for one in settings)]
        jobs: dict[Any, Job] = {}
        for guide in guides:
            for pool in POOLS:
                host = registry.build(HOST, {f"{HOST}.keep": self.keep})
                jobs[guide, pool] = Job(host + Watching(pool, []), guide)
        values = self._of(task, samples, jobs, watched=True)
        found: dict[str | Setting, Float[np.ndarray, "n"]] = {}
        lines: list[Any] = []
        for one in settings:
            lines = values[one.guide, one.pool]
            layers = [*one.read(len(lines[0][0]))]
            found[one] = np.array(
                [
                    reciprocal_rank(np.mean([by_layer[n] for n in layers], 0).tolist(), evidence)
                    for by_layer, evidence in lines
                ]
            )
        frames = len(lines[0][0][0])
        chance = [expected_reciprocal(0, frames, len(evidence)) for _, evidence in lines]
        return {"chance": np.array(chance), **found}

    def _of(
        self, task: TinyVQA, samples: Sequence[int], jobs: Mapping[Any, Job], watched: bool
    ) -> dict[Any, list[Any]]:
        batches = [[*samples[start : start + _BATCH]] for start in range(0, len(samples), _BATCH)]
        keys = {
            name: [self._key(task, job, batch, watched) for batch in batches]
            for name, job in jobs.items()
        }
        kept = Kept(self.file)
        known, pending = kept.read(), []
        for place, batch in enumerate(batches):
            asked = {keys[name][place]: job for name, job in jobs.items()}
            if missing := {key: job for key, job in asked.items() if key not in known}:
                pending.append((batch, missing))
        known |= kept.ask(Asking(task, pending, watched), "batch")
        return {name: [line for key in own for line in known[key]] for name, own in keys.items()}

    def _key(self, task: TinyVQA, job: Job, batch: Sequence[int], watched: bool) -> str:
        """Made of all that an answer depends on, the methods' files included."""
        asked = [dict(task.fingerprint()), _material(), job.key, [*batch], watched, _LONGEST]
        return key_of(asked)


@cache
def _material() -> list[Any]:
    """Weights, and the methods' own files."""
    folder = Path(strategies.__path__[0])
    own = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in (HOST, "dytok", RANDOM)]
    return [weights(MODEL), weights(ASSISTANT), own, _DTYPE, repr(DyToK())]
