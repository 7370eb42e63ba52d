"""Decoding with DyCoke's dynamic pruning against the full model and dense oracles.

    python benchmarks/decode.py [LAYERS]

A random decoder of the shape of LLaVA-OneVision 0.5B's (24 layers, width 896, 14 heads, 2 key/value
heads, feed-forward 4864, bfloat16; the vocabulary is cut to 1,000 words) decodes on the CPU behind
caches of random rows, so that no prompt has to be prefilled. `oracle` is the stock model with the
visible length from the pruning layer up and every row below it, where DyCoke attends to everything;
`short` has the visible length in all layers, which no method that chooses by a lower layer's
attention can have. The stock cache copies itself at every step and ours does not: `in place` is the
oracle on our cache, without a strategy. Ours also chooses rows and swaps them; `held` keeps its
choice, `renewed` selects at every step, among random keys, so that seven in ten visible rows
change: trained models lie in between. All take turns of one token in rotating order, so that a busy
machine slows them alike, and a ratio is the median of the turns' ratios. The claims: at most 1.05
of the oracle, at most 1 of the full model.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import truediv
from typing import Any

import numpy as np
import torch
import where
from transformers import (
    DynamicCache,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from tokenprune import attach
from tokenprune.adapters import adapt
from tokenprune.adapters.rows import placed
from tokenprune.compat import caching
from tokenprune.runtime.arrival import empty_reports
from tokenprune.runtime.cache import compressed_cache
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.layout import Layout
from tokenprune.runtime.partitioned_cache import PartitionedLayer
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.report import Report
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.strategy import Pipeline
from tokenprune.tokens import Video

CELLS, BEFORE, AFTER, HEADS, HEAD_WIDTH = 196, 14, 30, 2, 64
LAYER = DyCoke().layer
FRAMES = (1, 4, 16, 31)  # 196, 784, 3,136 and 6,076 visual tokens
TURNS, WARM = 20, 3
BASES, CLAIMS = ("oracle", "in place", "short", "full"), {"oracle": 1.05, "full": 1.0}


def decoder(layers: int) -> Any:
    """The language model, behind a tower that never runs."""
    text = Qwen2Config(
        vocab_size=1000,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=HEADS,
        max_position_embeddings=32768,
        rope_theta=1e6,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    vision = SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=112,
        patch_size=4,
        vision_use_head=False,
    )
    settings: dict[str, Any] = {
        "vision_config": vision,
        "text_config": text,
        "image_token_id": 6,
        "video_token_id": 5,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": [[112, 112]],
    }
    return (
        LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(**settings))
        .to(torch.bfloat16)
        .eval()
    )


def filled(cache: DynamicCache, rows: list[int]) -> DynamicCache:
    """A cache with as many random rows in each layer."""
    for layer, number in enumerate(rows):
        cache.update(*torch.randn(2, 1, HEADS, number, HEAD_WIDTH).bfloat16(), layer)
    return cache


@contextmanager
def pruned(
    model: Any, layers: int, frames: int, threshold: float
) -> Iterator[tuple[DynamicCache, Report]]:
    """An attached model and a cache as if a prompt had gone through it."""
    pipeline = Pipeline((DyCoke(merge=0.0, prune=0.7, threshold=threshold),))
    run = np.zeros((1, BEFORE + frames * CELLS + 1 + AFTER), dtype=bool)
    run[:, BEFORE:-AFTER] = True
    rows = placed(run, [[Video(frames, 14, 14)]], adapt(model).pattern)
    layout = Layout.of(rows, np.ones_like(run), torch.device("cpu"))
    report = Report(empty_reports(layout, adapt(model).pattern), Clock([], False))
    prompt = PromptState(layout, report)
    cache = filled(compressed_cache(None, layers, PartitionedLayer), [run.shape[1]] * layers)
    report[0].layers = prompt.visual_rows(0, layers)
    with attach(model, pipeline) as session:
        assert session._passes is not None
        session._passes._prompts[cache] = prompt
        yield cache, report


def step(model: Any, cache: DynamicCache) -> Callable[[], object]:
    word = torch.tensor([[9]])
    return lambda: model(input_ids=word, **caching(model, cache), use_cache=True)


def in_turns(actions: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Milliseconds of each action in each turn; who comes first changes."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    names = list(actions)
    for turn in range(TURNS + WARM):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begun = time.perf_counter()
            actions[name]()
            if turn >= WARM:
                times[name].append(1e3 * (time.perf_counter() - begun))
    return times


@torch.inference_mode()
def main() -> None:
    layers = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    torch.manual_seed(0)
    model = decoder(layers)
    # by threshold; each is attached to a model of its own on the same weights
    twins = {"held": -1.0, "renewed": 2.0}
    attached = {}
    for name in twins:
        with torch.device("meta"):
            attached[name] = decoder(layers)
        attached[name].load_state_dict(model.state_dict(), assign=True)
        # rotary frequencies are no part of a state dict
        attached[name].model.language_model.rotary_emb = model.model.language_model.rotary_emb
        attached[name].tie_weights()
    print(where.line())
    print(f"{layers} layers, bfloat16, ms per token, medians of {TURNS}; ! misses a claim")
    for frames in FRAMES:
        visual = frames * CELLS
        text, shown = BEFORE + 1 + AFTER, int(visual * (1 - 0.7))
        rows = [text + visual] * LAYER + [text + shown] * (layers - LAYER)
        actions = {
            "full": step(model, filled(DynamicCache(), [text + visual] * layers)),
            "short": step(model, filled(DynamicCache(), [text + shown] * layers)),
            "oracle": step(model, filled(DynamicCache(), rows)),
            "in place": step(model, filled(compressed_cache(None, layers, PartitionedLayer), rows)),
        }
        with (
            pruned(attached["held"], layers, frames, twins["held"]) as (held, _),
            pruned(attached["renewed"], layers, frames, twins["renewed"]) as (renewed, report),
        ):
            actions |= {
                "held": step(attached["held"], held),
                "renewed": step(attached["renewed"], renewed),
            }
            times = in_turns(actions)
        print(
            f"{visual} visual rows, {shown} visible; {report[0].decode_changes} changes of "
            "selection"
        )
        print(
            "   ms   ",
            "  ".join(f"{name} {statistics.median(taken):.1f}" for name, taken in times.items()),
        )
        for name in twins:
            found = {
                base: statistics.median(map(truediv, times[name], times[base])) for base in BASES
            }
            cells = (
                f"/ {base} {over:.3f}{'!' if over > CLAIMS.get(base, over) else ''}"
                for base, over in found.items()
            )
            print(f"   {name:8s}", "  ".join(cells))


if __name__ == "__main__":
    main()
