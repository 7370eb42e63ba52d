"""The results of a bench in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.bench.columns import FIGURES, OVER_FLOOR, SYSTEM, named
from tokenprune.bench.notes import about, choices
from tokenprune.bench.ratios import COUNTED, EVERY, RATIOS, SPEC
from tokenprune.bench.run import CHART, JSON, Done
from tokenprune.results.column import Column
from tokenprune.results.table import terminal

# what fits into 80 characters; the rest stands upright
_SYSTEMS = (
    "layer_average_tokens",
    "vision_over_floor",
    "ttft_ms",
    "decode_ms_per_token",
    "decode_cache_share",
    "peak_memory_bytes",
)
_RATIOS = (
    "prefill_speedup",
    "prefill_over_oracle",
    "prefill_over_floor",
    "decode_over_vanilla",
    "decode_over_floor",
    "memory_over_oracle",
)
# video and preprocessing are the same for all systems
_COMMON = ("video_ms", "preprocess_ms")
_ALL = [
    SYSTEM,
    *(one for one in FIGURES if one.heading and one.name not in _COMMON),
    *OVER_FLOOR,
]


_NAME = Column("", "ratio", "of the strategy to one of its references", str)


def measured(done: Done, everything: bool = False) -> RenderableType:
    """What `tokenprune bench` prints at the end: what was found, a few columns, and how it was
    measured; `everything`: every figure, a table for each strategy.
    """
    rows, where = done.result["rows"], done.result["environment"]
    tables = [_upright(row) for row in rows] if everything else [_systems(rows), _ratios(rows)]
    notes = (*choices(rows, where), *about(where))
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
    columns = [SYSTEM, *named((*FIGURES, *OVER_FLOOR), _SYSTEMS)]
    return _one_each(terminal(lines, columns, sections=range(0, len(lines), 3)))


def _ratios(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Each strategy beside full model, oracle and floor; the full model has but a floor."""
    lines = [{**rows[0]["vanilla"], "spec": "full model"}]
    lines += [{"spec": row["spec"], **row["ratios"]} for row in rows]
    # the tower's time is worth a column where something changes it
    inside = any(row["ratios"].get("exact_tower_over_vanilla") not in (None, 1) for row in rows)
    names = ("vision_over_vanilla", *_RATIOS[:-1]) if inside else _RATIOS
    columns = [SPEC, *named(EVERY, names)]
    return _one_each(terminal(lines, columns, sections=[0]))


def _one_each(table: Table) -> Table:
    """A line for each system: the name of a pipeline of many parts is cut, as it stands above."""
    table.pad_edge = False
    table.columns[0].no_wrap, table.columns[0].overflow = False, "ellipsis"
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
