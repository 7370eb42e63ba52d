"""The rows of `bench.json`: a strategy with its three reference lines, and what it is beside them.

A row is a strategy's `spec`, the figures of each of LINES, and `ratios`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig

from tokenprune.bench.inputs import Inputs
from tokenprune.bench.operations import Work, exact, papers, papers_prefill
from tokenprune.bench.ratios import LINES, RATIOS, Lines
from tokenprune.bench.reading import TIMES, Reading, Seen

Figures = dict[str, Any]


def row(
    spec: str, lines: Lines, inputs: Inputs, tokens: int, guide: PreTrainedConfig | None
) -> dict[str, Any]:
    """Everything about one strategy that made `tokens` tokens; `guide` is an assistant's."""
    figures = {name: line_figures(lines[name], inputs, tokens, guide) for name in LINES}
    measured = {ratio.name: ratio.of(lines) for ratio in RATIOS}
    counted = _counted_ratios(figures["strategy"], figures["vanilla"])
    return {"spec": spec, **figures, "ratios": {**measured, **counted}}


def line_figures(
    readings: Sequence[Reading],
    inputs: Inputs,
    tokens: int,
    guide: PreTrainedConfig | None = None,
) -> Figures:
    """Medians of times with the lowest and highest, memory, visual rows, operations per sample."""
    times = _times(readings, inputs)
    seen = readings[0].seen  # the same in every turn
    peaks = [reading.peak for reading in readings if reading.peak is not None]
    per_token = statistics.median(times["decode_ms_per_token"])
    return {
        **{name: _median(values) for name, values in times.items()},
        "spread": {name: [min(values), max(values)] for name, values in times.items() if values},
        "peak_memory_bytes": round(statistics.median(peaks)) if peaks else None,
        "kv_bytes": round(readings[0].cache),
        "layer_average_tokens": statistics.fmean(seen.layers),
        "visual_tokens_per_layer": [round(rows) for rows in seen.layers],
        "decode_visual_tokens_per_layer": seen.decode,
        "decode_selection_changes": seen.changes,
        "decode_tokens_per_s": 1e3 * len(inputs.texts) / per_token,
        **_operations(seen, inputs, tokens, guide if seen.probe_layers else None),
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


def _operations(
    seen: Seen, inputs: Inputs, tokens: int, guide: PreTrainedConfig | None
) -> dict[str, Any]:
    config = inputs.adapter.model.config
    work = Work(
        images=0 if inputs.pixels is None else inputs.frames,
        full=inputs.full,
        text=inputs.text + inputs.adapter.separators,
        layers=seen.layers,
        decode=seen.decode,
        generated=tokens,
        probe_layers=seen.probe_layers,
    )
    counted = exact(config, work, guide)
    return {
        "papers_flops": papers(config, work, guide),
        "papers_prefill_flops": papers_prefill(config, work, guide),
        "exact_flops": counted.total,
        "exact_prefill_flops": counted.llm,
        "exact_flops_by_part": counted.as_dict(),
    }


def _counted_ratios(strategy: Mapping[str, Any], vanilla: Mapping[str, Any]) -> dict[str, float]:
    """What counts of operations promise of the prefill, beside `prefill_over_vanilla`.

    `papers` is c2 over visual tokens, `exact` all matrix products between visual features and the
    first token.
    """
    counts = ("papers_prefill", "exact_prefill")
    return {
        f"{name}_over_vanilla": strategy[f"{name}_flops"] / vanilla[f"{name}_flops"]
        for name in counts
    }
