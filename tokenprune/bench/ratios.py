"""What a strategy's readings are beside those of its reference lines, turn by turn.

A ratio is the median over turns, since the candidates of a turn ran side by side.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenprune.bench.columns import OVER_FLOOR, Figure
from tokenprune.bench.reading import Reading
from tokenprune.results.column import Column

Measure = Callable[[Reading], float | None]
LINES = ("vanilla", "oracle", "random", "strategy")  # the strategy beside its three references
Lines = Mapping[str, Sequence[Reading]]  # measured turns by line, in the same order


def llm_ms(reading: Reading) -> float:
    """Prefill with what the strategy and its probe take: a slow one must not look free."""
    return without_probe_ms(reading) + reading.times["probe_ms"]


def without_probe_ms(reading: Reading) -> float:
    """As DyToK's tables count: the probe does not."""
    return reading.times["prefill_ms"] + reading.times["strategy_ms"]


def _time(name: str) -> Measure:
    return lambda reading: reading.times[name]


def _peak(reading: Reading) -> float | None:
    return reading.peak


def _cache(reading: Reading) -> float:
    return reading.cache


_PERCENT: dict[str, Any] = {"unit": "%", "digits": ".1f", "scale": 0.01}  # of a fraction


@dataclass(frozen=True, kw_only=True)
class Ratio(Figure):
    """`top` of the strategy over `bottom` of another line; `inverse`: how many times less."""

    top: Measure
    line: str
    bottom: Measure
    inverse: bool = False
    digits: str = ".2f"

    def over(self, lines: Lines) -> float | None:
        """None where a figure is not known, or is nothing that can be divided by."""
        turns = zip(lines["strategy"], lines[self.line], strict=True)
        pairs = [(self.top(mine), self.bottom(other)) for mine, other in turns]
        known = [top / bottom for top, bottom in pairs if top is not None and bottom]
        if len(known) < len(pairs):
            return None
        middle = statistics.median(known)
        if self.inverse:
            return 1.0 / middle if middle else None
        return middle


def _speedup(name: str, heading: str, measure: Measure) -> Ratio:
    return Ratio(
        name,
        heading,
        "how many times shorter than the full model's",
        unit="x",
        top=measure,
        line="vanilla",
        bottom=measure,
        inverse=True,
    )


def _over(name: str, heading: str, measure: Measure, line: str) -> Ratio:
    whose = {"vanilla": "the full model's", "oracle": "its dense oracle's", "random": "random's"}
    meaning = f"as a fraction of {whose[line]}"
    return Ratio(name, heading, meaning, top=measure, line=line, bottom=measure)


def _share(name: str, heading: str, measure: Measure) -> Ratio:
    meaning = "as a fraction of the full model's prefill"
    prefill = _time("prefill_ms")
    return Ratio(name, heading, meaning, **_PERCENT, top=measure, line="vanilla", bottom=prefill)


RATIOS = (
    _speedup("prefill_speedup", "prefill\nspeed-up", llm_ms),
    _speedup("prefill_speedup_without_probe", "without\nprobe", without_probe_ms),
    _share("prefill_over_vanilla", "prefill\n/ full", llm_ms),
    _over("prefill_over_oracle", "prefill\n/ oracle", llm_ms, "oracle"),
    _over("prefill_over_random", "prefill\n/ random", llm_ms, "random"),
    _over("llm_prefill_over_oracle", "LLM prefill\n/ oracle", _time("prefill_ms"), "oracle"),
    _share("strategy_over_vanilla_prefill", "strategy\n/ full prefill", _time("strategy_ms")),
    _share("probe_over_vanilla_prefill", "probe\n/ full prefill", _time("probe_ms")),
    _over("vision_over_vanilla", "vision\n/ full", _time("vision_ms"), "vanilla"),
    _speedup("ttft_speedup", "TTFT\nspeed-up", _time("ttft_ms")),
    _over("ttft_over_oracle", "TTFT\n/ oracle", _time("ttft_ms"), "oracle"),
    _over("decode_over_vanilla", "decode\n/ full", _time("decode_ms_per_token"), "vanilla"),
    _over("decode_over_oracle", "decode\n/ oracle", _time("decode_ms_per_token"), "oracle"),
    _over("memory_over_vanilla", "peak\nmemory\n/ full", _peak, "vanilla"),
    _over("memory_over_oracle", "peak\nmemory\n/ oracle", _peak, "oracle"),
    _over("kv_over_vanilla", "KV\n/ full", _cache, "vanilla"),
    _over("kv_over_oracle", "KV\n/ oracle", _cache, "oracle"),
)
# what counts of operations promise of the prefill, beside `prefill_over_vanilla`: `papers` is c2
# over visual tokens, `exact` all matrix products between visual features and the first token
COUNTED = (
    Figure(
        "papers_prefill_over_vanilla",
        "papers' FLOPs\n/ full",
        "of the prefill, as a fraction of the full model's",
        **_PERCENT,
    ),
    Figure("exact_prefill_over_vanilla", "exact FLOPs\n/ full", "likewise", **_PERCENT),
    Figure(
        "exact_tower_over_vanilla",
        "tower FLOPs\n/ full",
        "likewise of the vision tower; nothing where features are made up",
        **_PERCENT,
    ),
)
EVERY = (*RATIOS, *OVER_FLOOR, *COUNTED)  # all that a row says of its strategy
SPEC = Column("spec", "strategy", "methods joined by +", str)


def counted(strategy: Mapping[str, Any], vanilla: Mapping[str, Any]) -> dict[str, float | None]:
    """COUNTED, from the figures of two lines; None where the full model does nothing of it."""
    found: dict[str, float | None] = {}
    for column in COUNTED:
        flops = column.name.replace("_over_vanilla", "_flops")
        whole = vanilla[flops]
        found[column.name] = strategy[flops] / whole if whole else None
    return found
