"""`bench.json`: one row per strategy, with its three reference lines, their ratios, and both counts
of operations.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from tokenprune.bench.inputs import Material, median
from tokenprune.bench.measure import TIMES, Reading
from tokenprune.bench.operations import Work, exact, papers, papers_prefill

LINES = ("full", "oracle", "random", "own")
LLM = "prefill and strategy"


@dataclass(frozen=True)
class Turns:
    """All measured turns of one strategy and its reference lines, in the same order."""

    strategy: str
    lines: Mapping[str, Sequence[Reading]]  # by the names of `LINES`
    guide: PreTrainedConfig | None = None  # of an assistant


def row(turns: Turns, material: Material, tokens: int) -> dict[str, Any]:
    """Everything about one strategy; a ratio is the median over turns, since a turn's systems ran
    side by side.
    """
    blocks = {name: block(turns.lines[name], material, tokens, turns.guide) for name in LINES}
    return {
        "strategy": turns.strategy,
        **blocks,
        "ratios": _ratios(turns),
        "formula": _formula(blocks, turns),
    }


def block(
    readings: Sequence[Reading],
    material: Material,
    tokens: int,
    guide: PreTrainedConfig | None = None,
) -> dict[str, Any]:
    """One system: medians of times with the lowest and highest, memory, visual rows by layer,
    operations per sample.
    """
    first = readings[0]
    prepared = {"video_ms": material.video_ms, "preprocess_ms": material.preprocess_ms}
    took = {name: [reading.times[name] for reading in readings] for name in TIMES}
    took["total_ms"] = [
        total + sum(part[turn] for part in prepared.values() if part)
        for turn, total in enumerate(took["total_ms"])
    ]
    measured = {**prepared, **took}
    work = Work(
        images=0 if material.pixels is None else material.frames,
        full=material.full,
        text=material.text + material.adapter.separators,
        layers=first.layers,
        decode=first.decode,
        generated=tokens,
        probe_layers=first.probe_layers,
    )
    config, guided_by = material.adapter.model.config, guide if first.probe_layers else None
    counted = exact(config, work, guided_by)
    return {
        **{name: median(values) for name, values in measured.items()},
        "spread": {name: [min(values), max(values)] for name, values in measured.items() if values},
        "peak_memory_bytes": _whole(
            median([reading.peak for reading in readings if reading.peak is not None])
        ),
        "kv_bytes": _whole(first.cache),
        "visual_tokens_per_layer": [_whole(rows) for rows in first.layers],
        "decode_visual_tokens_per_layer": first.decode,
        "decode_selection_changes": first.changes,
        "decode_tokens_per_s": 1e3
        * len(material.texts)
        / statistics.median(took["decode_ms_per_token"]),
        "flops": {
            "papers": papers(config, work, guided_by),
            "papers_prefill": papers_prefill(config, work, guided_by),
            "exact": {**counted.as_dict(), "llm_prefill": counted.llm},
        },
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _llm(reading: Reading) -> float:
    """Prefill with what the strategy and its probe take: a slow one must not look free."""
    return _guided(reading) + reading.times["probe_ms"]


def _guided(reading: Reading) -> float:
    """As DyToK's tables count: the probe does not."""
    return reading.times["prefill_ms"] + reading.times["strategy_ms"]


def _ratios(turns: Turns) -> dict[str, float | None]:
    def over(
        line: str, what: Callable[[Reading], float | None], inverse: bool = False
    ) -> float | None:
        pairs = [
            (what(own), what(other))
            for own, other in zip(turns.lines["own"], turns.lines[line], strict=True)
        ]
        found = [a / b for a, b in pairs if a and b]
        middle = statistics.median(found) if len(found) == len(pairs) else None
        return 1.0 / middle if middle and inverse else middle

    def time(name: str) -> Callable[[Reading], float]:
        return lambda reading: reading.times[name]

    own, full = turns.lines["own"], turns.lines["full"]

    def share(name: str) -> float:
        return statistics.median(
            a.times[name] / b.times["prefill_ms"] for a, b in zip(own, full, strict=True)
        )

    return {
        "prefill_speedup": over("full", _llm, inverse=True),
        "prefill_speedup_without_probe": over("full", _guided, inverse=True),
        "prefill_over_oracle": over("oracle", _llm),
        "prefill_over_random": over("random", _llm),
        "llm_prefill_over_oracle": over("oracle", time("prefill_ms")),
        "strategy_over_full_prefill": share("strategy_ms"),
        "probe_over_full_prefill": share("probe_ms"),
        "ttft_speedup": over("full", time("ttft_ms"), inverse=True),
        "ttft_over_oracle": over("oracle", time("ttft_ms")),
        "decode_over_full": over("full", time("decode_ms_per_token")),
        "decode_over_oracle": over("oracle", time("decode_ms_per_token")),
        "memory_over_full": over("full", lambda reading: reading.peak),
        "memory_over_oracle": over("oracle", lambda reading: reading.peak),
        "kv_over_full": over("full", lambda reading: reading.cache),
        "kv_over_oracle": over("oracle", lambda reading: reading.cache),
    }


def _formula(blocks: Mapping[str, Mapping[str, Any]], turns: Turns) -> dict[str, float]:
    """What counts of operations promise of the prefill, beside what was measured; all as fractions
    of the full model's.

    `papers` is c2 over visual tokens, `exact` all matrix products between visual features and first
    token.
    """
    own, full = blocks["own"]["flops"], blocks["full"]["flops"]
    pairs = zip(turns.lines["own"], turns.lines["full"], strict=True)
    return {
        "papers": own["papers_prefill"] / full["papers_prefill"],
        "exact": own["exact"]["llm_prefill"] / full["exact"]["llm_prefill"],
        "measured": statistics.median(_llm(a) / _llm(b) for a, b in pairs),
    }
