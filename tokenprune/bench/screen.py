"""The results of a bench in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.bench.columns import FIGURES, SYSTEM, named
from tokenprune.bench.ratios import COUNTED, RATIOS, SPEC
from tokenprune.bench.run import CHART, JSON, Done
from tokenprune.results.column import Column
from tokenprune.results.table import terminal

# five columns each: what fits into 80 characters; the rest stands upright
_SYSTEMS = ("layer_average_tokens", "ttft_ms", "decode_ms_per_token", "peak_memory_bytes")
_RATIOS = ("prefill_speedup", "prefill_over_oracle", "decode_over_vanilla", "memory_over_oracle")
# video and preprocessing are the same for all systems
_COMMON = ("video_ms", "preprocess_ms")
_ALL = [SYSTEM, *(one for one in FIGURES if one.heading and one.name not in _COMMON)]


_NAME = Column("", "ratio", "of the strategy to one of its references", str)


def measured(done: Done, everything: bool = False) -> RenderableType:
    """What `tokenprune bench` prints at the end: what was found, five columns, and how it was
    measured; `everything`: every figure, a table for each strategy.
    """
    rows, where = done.result["rows"], done.result["environment"]
    tables = [_upright(row) for row in rows] if everything else [_systems(rows), _ratios(rows)]
    notes = (*_choices(rows, where), *_notes(where))
    return Group(
        *(Text(line, style="bold", overflow="fold") for line in headline(rows)),
        *tables,
        *(Text(line, style="dim", overflow="fold") for line in notes),
        Text(
            f"Results in {done.folder}: {JSON} has every figure (details=true prints them), "
            f"{CHART}",
            overflow="fold",
        ),
    )


def headline(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each strategy keeps, and what that is worth."""
    full = rows[0]["vanilla"]["layer_average_tokens"]
    for row in rows:
        ratios, kept = row["ratios"], row["strategy"]["layer_average_tokens"]
        told = f"{row['spec']} keeps {kept:.0f} of {full:.0f} visual tokens"
        speeds = (("prefill", "prefill_speedup"), ("first token", "ttft_speedup"))
        known = [f"{what} {_speed(ratios[name])}" for what, name in speeds if ratios[name]]
        yield f"{told}: {' and '.join(known)} than the full model's." if known else f"{told}."


def _speed(ratio: float) -> str:
    return f"{ratio:.2f} times faster" if ratio >= 1 else f"{1 / ratio:.2f} times slower"


def _systems(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The full model, then each strategy above its references."""
    lines = list(system_lines(rows))
    columns = [SYSTEM, *named(FIGURES, _SYSTEMS)]
    return _foldable(terminal(lines, columns, sections=range(0, len(lines), 3)))


def _ratios(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    lines = [{"spec": row["spec"], **row["ratios"]} for row in rows]
    return _foldable(terminal(lines, [SPEC, *named((*RATIOS, *COUNTED), _RATIOS)]))


def _foldable(table: Table) -> Table:
    """A pipeline of many parts is the only thing that may take several lines."""
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    return table


def _upright(row: Mapping[str, Any]) -> RenderableType:
    """Every figure of a strategy beside its references, and all its ratios below."""
    lines = [
        {**row["vanilla"], "system": "full model"},
        {**row["oracle"], "system": "dense oracle"},
        {**row["random"], "system": "random"},
        {**row["strategy"], "system": "strategy"},
    ]
    ratios = [one for one in (*RATIOS, *COUNTED) if row["ratios"].get(one.name) is not None]
    return Group(
        Text(f"\n{row['spec']}", overflow="fold"),
        terminal(lines, _ALL, upright=True),
        terminal(
            [{**row["ratios"], "": "strategy"}],
            [Column("", "ratio", "", str), *ratios],
            upright=True,
        ),
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
