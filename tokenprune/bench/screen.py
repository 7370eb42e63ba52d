"""The results of a bench in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tokenprune.bench.columns import FIGURES, SYSTEM, named
from tokenprune.bench.ratios import COUNTED, RATIOS, SPEC
from tokenprune.bench.run import CHART, JSON, Done
from tokenprune.results.table import terminal

# in the table of systems; video and preprocessing are the same for all of them
_SHOWN = [one for one in FIGURES if one.heading and one.name not in ("video_ms", "preprocess_ms")]
_RATIOS = (
    "prefill_speedup",
    "prefill_over_oracle",
    "strategy_over_vanilla_prefill",
    "ttft_speedup",
    "decode_over_vanilla",
    "decode_over_oracle",
    "memory_over_oracle",
    "papers_prefill_over_vanilla",
    "exact_prefill_over_vanilla",
    "prefill_over_vanilla",
)


def measured(done: Done) -> RenderableType:
    """Everything `tokenprune bench` prints at the end."""
    rows, where = done.result["rows"], done.result["environment"]
    lines = list(system_lines(rows))
    systems = terminal(lines, [SYSTEM, *_SHOWN], sections=range(0, len(lines), 3))
    ratios = [{"spec": row["spec"], **row["ratios"]} for row in rows]
    headline = terminal(ratios, [SPEC, *named((*RATIOS, *COUNTED), _RATIOS)])
    notes = (*_choices(rows, where), *_notes(where))
    return Group(
        systems,
        headline,
        *(Text(line, style="dim", overflow="fold") for line in notes),
        Text(f"Results in {done.folder}: {JSON}, {CHART}", overflow="fold"),
    )


def system_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The full model once, then each strategy above its oracle and `random`."""
    yield {**rows[0]["vanilla"], "system": "full model"}
    for row in rows:
        yield {**row["strategy"], "system": row["spec"]}
        yield {**row["oracle"], "system": "  dense oracle"}
        yield {**row["random"], "system": "  random"}


def _choices(rows: Sequence[Mapping[str, Any]], where: Mapping[str, Any]) -> Iterator[str]:
    """How often decode stages chose anew, and what a probe costs."""
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


def _notes(where: Mapping[str, Any]) -> Iterator[str]:
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
    if where["memory_method"] is not None:
        yield f"Peak memory: {where['memory_method']}."
    if where["load_before"] is not None:
        yield _load(where)


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
