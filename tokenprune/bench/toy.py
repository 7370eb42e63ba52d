"""A model on which launches and waits are counted: as deep as a 7B, and as narrow as can be."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, NamedTuple

import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from tokenprune import registry
from tokenprune.bench.dispatch import Dispatched
from tokenprune.runtime.session import attach
from tokenprune.strategy import Allocator, Pipeline

DEPTH, WIDTH, FRAMES = 28, 64, 8
VIDEO, IMAGE, PAD, WORDS = 5, 6, 0, 64
SIDE, PATCH = 64, 8
CELLS = (SIDE // PATCH // 2) ** 2  # of a frame, pooled
TEXT = (6, 7)  # words before and behind the video
# older versions of torch take operations apart into more of them
COMPARABLE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)
# vision stages whose quotas follow from options and shapes alone
FIXED = frozenset(["cdpruner", "dycoke", "random", "uniform", "visionzip", "vispruner"])


class Overhead(NamedTuple):
    """What carrying a pipeline through one prefill costs, or may cost.

    Args:
        operations: dispatched beyond those of the stock model on the same prompt
        reads: host reads beyond its own, or those that our lines ask for if they are more (a seam
            that spares the model a read is not given another one for it)
    """

    operations: int
    reads: int


@cache
def toy() -> Any:
    """LLaVA-OneVision with a 28-layer language model of width 64, in milliseconds."""
    language: dict[str, Any] = {
        "vocab_size": WORDS,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.3,
        "pad_token_id": PAD,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    vision: dict[str, Any] = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "image_size": SIDE,
        "patch_size": PATCH,
        "vision_use_head": True,
    }
    settings: dict[str, Any] = {
        "vision_config": SiglipVisionConfig(**vision),
        "text_config": Qwen2Config(**language),
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": False,
        "image_grid_pinpoints": [[SIDE, SIDE]],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(**settings)).eval()
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = None  # random models would stop at random
    return model


def twin() -> Any:
    """A copy, for a session beside another one."""
    return copy.deepcopy(toy())


def prompt(frames: int = FRAMES) -> dict[str, torch.Tensor]:
    """One sample as a processor makes it: words, a video, words; and a mask without padding."""
    generator = torch.Generator().manual_seed(0)
    before, behind = (torch.randint(7, WORDS, (number,), generator=generator) for number in TEXT)
    shown = torch.full((frames * CELLS + 1,), VIDEO)  # and the newline embedding
    ids = torch.cat([before, shown, behind]).unsqueeze(0)
    pixels = torch.randn(1, frames, 3, SIDE, SIDE, generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": pixels,
    }


@torch.no_grad()
def prefill(spec: str | Pipeline, options: dict[str, Any] | None = None) -> Dispatched:
    """All that is dispatched in one prefill under a pipeline; "none" is the seam alone."""
    model, inputs = toy(), prompt()
    with attach(model, spec, options), Dispatched() as counted:
        model(**inputs)
    return counted


@cache
def stock() -> Dispatched:
    """That of the stock model."""
    model, inputs = toy(), prompt()
    with torch.no_grad(), Dispatched() as counted:
        model(**inputs)
    return counted


def overhead(counted: Dispatched) -> Overhead:
    """What was more than the stock model's; the layers that a guide runs are not counted."""
    without = ("model", "ours")
    operations, reads = (
        counted.number(what, *without) - stock().number(what) for what in ("operations", "reads")
    )
    return Overhead(operations, max(reads, counted.number("reads", "ours")))


def bar(pipeline: Pipeline) -> Overhead:
    """What a pipeline may cost: few operations for what chooses simply, one read where every quota
    follows from options and shapes.
    """
    names = {strategy.name for strategy in pipeline.strategies}
    simple = 40 if names <= {"random", "uniform"} else 80 if names <= {"dycoke", "fastv"} else 150
    return Overhead(simple, 1 if names <= FIXED else 3)


def alone(name: str) -> str:
    """A pipeline of one strategy; an allocator needs somebody's budget."""
    return f"{name}+visionzip" if issubclass(registry.get(name), Allocator) else name


def overheads_markdown() -> str:
    """The table of all registered strategies."""
    lines = ["| pipeline | operations | at most | host reads | at most |", "|--|--:|--:|--:|--:|"]
    for spec in map(alone, registry.names()):
        found, most = overhead(prefill(spec)), bar(registry.build(spec))
        cells = (found.operations, most.operations, found.reads, most.reads)
        lines.append(f"| `{spec}` | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
