"""The rows of `bench.json`: a strategy with its three reference lines, and what it is beside them.

A row is a strategy's `spec`, the figures of each of LINES, and `ratios`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from tokenprune.bench.columns import OVER_FLOOR
from tokenprune.bench.inputs import Inputs
from tokenprune.bench.limits import Limits
from tokenprune.bench.operations import Work, exact, papers, papers_prefill
from tokenprune.bench.ratios import LINES, RATIOS, Lines, counted
from tokenprune.bench.reading import TIMES, Reading, Seen

Figures = dict[str, Any]


def row(
    spec: str,
    lines: Lines,
    inputs: Inputs,
    tokens: int,
    guide: PreTrainedConfig | None,
    limits: Limits,
) -> dict[str, Any]:
    """Everything about one strategy that made `tokens` tokens; `guide` is an assistant's."""
    figures = {name: line_figures(lines[name], inputs, tokens, guide, limits) for name in LINES}
    ratios = {ratio.name: ratio.over(lines) for ratio in RATIOS}
    ratios |= {column.name: figures["strategy"][column.name] for column in OVER_FLOOR}
    ratios |= counted(figures["strategy"], figures["vanilla"])
    return {"spec": spec, **figures, "ratios": ratios}


def line_figures(
    readings: Sequence[Reading],
    inputs: Inputs,
    tokens: int,
    guide: PreTrainedConfig | None,
    limits: Limits,
) -> Figures:
    """Medians of times with the lowest and highest, memory, visual rows, operations per sample.

    And how far the times are above their floors.
    """
    times = _times(readings, inputs)
    seen = readings[0].seen  # the same in every turn
    peaks = [reading.peak for reading in readings if reading.peak is not None]
    per_token = statistics.median(times["decode_ms_per_token"])
    middle = {name: _median(values) for name, values in times.items()}
    config, work = inputs.adapter.model.config, work_of(seen, inputs, tokens)
    read_by = guide if seen.probe.layers else None
    parts = exact(config, work, read_by)
    return {
        **middle,
        "spread": {name: [min(values), max(values)] for name, values in times.items() if values},
        "peak_memory_bytes": round(statistics.median(peaks)) if peaks else None,
        "kv_bytes": round(readings[0].cache),
        "layer_average_tokens": statistics.fmean(seen.layers),
        "visual_tokens_per_layer": [round(rows) for rows in seen.layers],
        "decode_visual_tokens_per_layer": seen.decode,
        "decode_selection_changes": seen.changes,
        "decode_tokens_per_s": 1e3 * len(inputs.texts) / per_token,
        "papers_flops": papers(config, work, read_by),
        "papers_prefill_flops": papers_prefill(config, work, read_by),
        "exact_flops": parts.total,
        "exact_prefill_flops": parts.llm,
        "exact_tower_flops": parts.tower,
        "exact_flops_by_part": parts.as_dict(),
        **limits.figures(config, work, parts, middle),
    }


def _times(readings: Sequence[Reading], inputs: Inputs) -> dict[str, list[float]]:
    """By name, one of each turn; none of what was not done. The total is from the video file on."""
    prepared = {"video_ms": inputs.video_ms, "preprocess_ms": inputs.preprocess_ms}
    took = {name: [reading.times[name] for reading in readings] for name in TIMES}
    for values in prepared.values():
        if values:
            pairs = zip(took["total_ms"], values, strict=True)
            took["total_ms"] = [total + value for total, value in pairs]
    return {**prepared, **took}


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def work_of(seen: Seen, inputs: Inputs, tokens: int) -> Work:
    """What one sample went through to make `tokens` tokens."""
    return Work(
        images=inputs.video.frames if inputs.media else 0,
        full=inputs.full,
        text=inputs.text + inputs.beside,
        layers=seen.layers,
        decode=seen.decode,
        generated=tokens,
        probe_layers=seen.probe.layers,
        probe_rows=seen.probe.tokens([inputs.video]),
        shares_tower=seen.probe.shared,
        grid=inputs.grid,
        tower=seen.tower,
    )
