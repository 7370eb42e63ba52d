"""Where pruning the cache while decoding can pay: its share of the bytes that a step reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from tokenprune.bench.config import BenchConfig
from tokenprune.bench.limits import Step, Weights, step
from tokenprune.bench.operations import Work
from tokenprune.bench.shapes import shape_configuration
from tokenprune.loading.checkpoint import outline

_USUAL = BenchConfig(strategy=["none"], out="nowhere")  # its text and its new tokens


def steps_of(
    shape: str, frames: Sequence[int], batches: Sequence[int], dtype: torch.dtype
) -> Iterator[list[Step]]:
    """What a step of the full model reads, batch by batch, for each number of frames.

    `shape` is one of `tokenprune bench`, of a family whose frames have one size. Text and new
    tokens are the bench's defaults, without a newline. Nothing is built or measured.
    """
    settings = shape_configuration(shape)
    adapter = outline(settings)
    nn.Module.to(adapter.model, dtype)
    weights = Weights.of(adapter)
    for batch in batches:
        works = [_work(adapter.depth, count * adapter.cells) for count in frames]
        yield [step(settings, work, batch, weights, dtype.itemsize) for work in works]


def _work(depth: int, rows: int) -> Work:
    """A prompt of so many visual rows in every layer."""
    everywhere = [rows] * depth
    new = _USUAL.new_tokens
    return Work(0, rows, _USUAL.text, everywhere, everywhere, new)


def shares_markdown(
    shape: str, frames: Sequence[int], batches: Sequence[int], dtype: torch.dtype
) -> str:
    """The shares as a table: a line for each batch, a column for each number of frames."""
    head = ["batch", *(f"{count} frames" for count in frames)]
    lines = [head, ["--:"] * len(head)]
    for batch, row in zip(batches, steps_of(shape, frames, batches, dtype), strict=True):
        lines.append([str(batch), *(f"{100 * one.share:.1f} %" for one in row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
