"""What the tables of a bench cannot say: how it was measured, on what, and what a step reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenprune.bench.config import STATIC


def choices(rows: Sequence[Mapping[str, Any]], where: Mapping[str, Any]) -> Iterator[str]:
    """What a step reads, how often decode stages chose anew, and what a probe costs."""
    full = rows[0]["vanilla"]
    yield (
        f"A decoding step of the full model reads {full['decode_weight_bytes'] / 1e6:,.0f} MB of "
        f"weights and {full['decode_cache_bytes'] / 1e6:,.1f} MB of cache: pruning while decoding "
        f"saves {100 * full['decode_cache_share']:.1f} % of these bytes at most."
    )
    for row in rows:
        strategy = row["strategy"]
        if (changes := strategy["decode_selection_changes"]) is not None:
            yield (
                f"{row['spec']}: its selection changed in {changes} of "
                f"{where['new_tokens'] - 1} decoding steps."
            )
        if probe := strategy["probe_ms"]:
            without = row["ratios"]["prefill_speedup_without_probe"]
            yield (
                f"{row['spec']}: its probe took {probe:.1f} ms; prefill speed-up without it "
                f"{without:.2f}x."
            )


def about(where: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, and what the tables cannot say."""
    made_up = where["vision"] == "random"
    seen = "made-up features (no tower)" if made_up else f"video {where['video']}"
    source = "with random weights" if where["weights"] == "random" else "from its checkpoint"
    yield (
        f"{where['model']} {source}, {where['dtype']} on {where['device_name']} "
        f"({where['threads']} threads), {seen}: "
        f"{_shown(where)}, batch {where['batch']}, "
        f"{where['text_tokens']} text tokens, {where['new_tokens']} new ones, {where['repeats']} "
        "turns."
    )
    yield (
        "Times: medians, of the whole batch. Ratios: medians over turns; prefill ratios include "
        "the strategy's time. "
        "Oracle: the stock model given as many visual tokens, put together per layer where their "
        "number changes. "
        "FLOPs: multiply-adds per sample, of prefill and decoding."
    )
    if where.get("cache") == STATIC:  # benches of before had no choice of a cache
        yield _static(where)
    yield _floor(where)
    if where["memory_method"] is not None:
        yield f"Peak memory: {where['memory_method']}."
    if where["load_before"] is not None:
        yield _load(where)


def _static(where: Mapping[str, Any]) -> str:
    """What a static cache means for time and memory."""
    step = "not compiled on this device"
    if where["device"].startswith("cuda"):
        step = "compiled as a whole, with what CUDA graphs hold for all candidates in peak memory"
    return f"Cache: static, a step is {step}; the time of one is the median of a prompt's steps."


def _floor(where: Mapping[str, Any]) -> str:
    """What the floors were made of."""
    machine = where["machine"]
    moved = max(machine["copy_bytes_per_s"], machine["read_bytes_per_s"])
    return (
        "Floor: matrix products of the rows that were kept at "
        f"{machine['multiply_adds_per_s'] / 1e12:.3g} T multiply-adds/s in {where['dtype']}, or "
        f"bytes of weights and cache at {moved / 1e9:,.0f} GB/s, whichever takes longer: the best "
        f"of this device in this run (a copy: {machine['copy_bytes_per_s'] / 1e9:,.0f} GB/s)."
    )


def _shown(where: Mapping[str, Any]) -> str:
    """The video, at the LLM's input."""
    frames, groups = where["frames"], where["llm_frames"]
    tokens = f"of {where['tokens_per_frame']} tokens"
    if groups == frames:
        return f"{frames} frames {tokens}"
    return f"{frames} frames in {groups} groups {tokens}"


def _load(where: Mapping[str, Any]) -> str:
    before, after, cores = where["load_before"][0], where["load_after"][0], where["cores"]
    told = f"Load of the machine: {before} before, {after} after, {cores} cores."
    if max(before, after - 1) > cores:
        return f"{told} It was busy: measure again when it is not."
    return told
