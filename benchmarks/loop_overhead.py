"""What the evaluation loop costs: `evaluate` against bare `model.generate` on the same inputs.

    python benchmarks/loop_overhead.py [SAMPLES]

Both answer all samples one by one with the full model, in turns, so that a busy machine slows both.
The loop's share includes Lightning, the hooks of `attach`, scoring and records on disk; rendering
the videos and preparing the inputs, which both need, is left out by making them beforehand.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tokenprune import registry, tasks
from tokenprune.evaluation.conditions import Loop
from tokenprune.evaluation.loop import evaluate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY, Medium
from tokenprune.results.journal import Journal
from tokenprune.results.system import System
from tokenprune.tasks import Label, Sample, Task

TURNS = 2


class Made(tasks.Task):
    """Samples that are there already."""

    name = "made"

    def __init__(self, samples: list[Sample], task: Task) -> None:
        self.samples, self.task = samples, task

    @property
    def categories(self) -> tuple[str, ...]:
        return self.task.categories

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def label(self, index: int) -> Label:
        return self.task.label(index)

    def fingerprint(self) -> dict[str, Any]:
        return {}


class Prepared:
    """A processor whose inputs are made already."""

    def __init__(self, processor: Any, samples: list[Sample]) -> None:
        self.pad, self.decode = processor.pad, processor.decode
        self.preparation = processor.preparation
        self.inputs = {id(s.frames): processor.encode([(s.frames, s.question)]) for s in samples}

    def encode(self, asked: list[tuple[Medium, str]]) -> dict[str, torch.Tensor]:
        ((medium, _),) = asked
        return self.inputs[id(medium.frames)]


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    model, processor = load("tiny", device="cpu")
    task = tasks.build("tinyvqa", samples=number, frames=16, seed=0)
    samples = [task[index] for index in range(number)]
    prepared: Any = Prepared(processor, samples)
    bare, ours = [], []
    for turn in range(TURNS + 1):
        some = samples if turn else samples[:10]  # the first warms up
        began = time.perf_counter()
        for sample in some:
            inputs = prepared.encode([(Medium(sample.frames), sample.question)])
            model.generate(**inputs, max_new_tokens=48, **GREEDY, pad_token_id=processor.pad)
        middle = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            system = System("vanilla", "vanilla", registry.build("none"))
            evaluate(
                model, prepared, Made(some, task), [system], Loop(), journal=Journal(Path(folder))
            )
        ours.append(time.perf_counter() - middle)
        bare.append(middle - began)
    shares = [100 * (own / plain - 1) for own, plain in zip(ours[1:], bare[1:], strict=True)]
    each = ", ".join(f"{share:+.1f}" for share in shares)
    whole = 100 * (sum(ours[1:]) / sum(bare[1:]) - 1)
    print(
        f"loop overhead, tiny, {number} samples of 16 frames: {whole:+.1f} % (turns: {each}; bar: "
        "3 %); "
        f"{1e3 * sum(bare[1:]) / number / TURNS:.1f} ms per sample bare"
    )


if __name__ == "__main__":
    main()
