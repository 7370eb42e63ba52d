"""The tidy table of a sweep: one line per cell, as CSV and as Parquet."""

from __future__ import annotations

import csv as comma_separated
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.results.statistics import Estimate, Paired
from tokenprune.study.grid import Grid
from tokenprune.study.plan import VANILLA, Cell
from tokenprune.study.results import Results, Row
from tokenprune.study.sweep import SweepConfig

_COMPARED = ("score", "to_vanilla", "to_random")
_NUMBERS = ("budget", "layer_average_ratio", "input_ratio", "decode_ratio", "flops_ratio")
COLUMNS: dict[str, type[str] | type[float] | type[int]] = {
    **dict.fromkeys(("strategy", "options"), str),
    "keep_asked": float,
    **dict.fromkeys(("status", "reason"), str),
    **dict.fromkeys(_NUMBERS, float),
    **{f"{name}{end}": float for name in _COMPARED for end in ("", "_low", "_high")},
    **dict.fromkeys(("samples", "errors"), int),
    **dict.fromkeys(("model", "assistant", "task"), str),
    **dict.fromkeys(("frames", "seed"), int),
    **{f"{name}{end}": float for name in _COMPARED[1:] for end in ("_p", "_p_holm")},
}

Line = Mapping[str, Any]  # by column; None: not known, or does not apply


def lines(config: SweepConfig, grid: Grid, results: Results) -> list[Line]:
    """One line per cell, in the order of the grid, the full model first."""
    rows = {row.cell.slug: row for row in results.rows}
    reasons = {cell.slug: cell.reason for cell in results.missing}
    found = []
    for cell in grid.cells:
        row = rows.get(cell.slug)
        status = "ok" if row is not None else "unreachable" if cell.pipeline is None else "failed"
        known = {
            **_names(cell, grid),
            "status": status,
            "reason": reasons.get(cell.slug),
            **({} if row is None else _numbers(row)),
            "samples": 0 if row is None else row.samples,
            "errors": row.errors
            if row is not None
            else results.samples
            if status == "failed"
            else 0,
            "model": config.model,
            "assistant": cell.guided_by,
            "task": config.task,
            "frames": config.frames,
            "seed": config.seed,
        }
        found.append({name: known.get(name) for name in COLUMNS})
    return found


def _names(cell: Cell, grid: Grid) -> Line:
    if cell.method == VANILLA:
        return {"strategy": VANILLA, "options": "{}", "keep_asked": 1.0, "budget": 1.0}
    variant = grid.variants[cell.method]
    options = json.dumps(variant.options, sort_keys=True)
    return {
        "strategy": variant.spec,
        "options": options,
        "keep_asked": grid.asked[cell.tokens],
        "budget": cell.ratio,
    }


def _numbers(row: Row) -> dict[str, float | None]:
    """Without intervals where the samples cannot tell."""
    numbers: dict[str, float | None] = {
        "layer_average_ratio": row.measured,
        "input_ratio": row.input,
        "decode_ratio": row.decode,
        "flops_ratio": row.flops,
    }
    estimates: Sequence[Estimate | Paired | None] = (row.macro, row.to_vanilla, row.to_control)
    for name, estimate in zip(_COMPARED, estimates, strict=True):
        if estimate is not None:
            low, high = estimate.interval or (None, None)
            numbers |= {name: estimate.value, f"{name}_low": low, f"{name}_high": high}
        if isinstance(estimate, Paired):
            numbers |= {f"{name}_p": estimate.p, f"{name}_p_holm": estimate.p_holm}
    return numbers


def csv(table: Sequence[Line]) -> str:
    """Empty where a value is not known."""
    text = io.StringIO()
    out = comma_separated.DictWriter(text, list(COLUMNS), lineterminator="\n")
    out.writeheader()
    for line in table:
        out.writerow(
            {
                name: f"{value:.6g}" if isinstance(value, float) else value
                for name, value in line.items()
            }
        )
    return text.getvalue()


def parquet(table: Sequence[Line]) -> bytes:
    """The same with types, numbers in full."""
    import pyarrow
    from pyarrow.parquet import write_table

    types = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    sink = pyarrow.BufferOutputStream()
    write_table(pyarrow.Table.from_pylist([dict(line) for line in table], schema=schema), sink)
    return sink.getvalue().to_pybytes()
