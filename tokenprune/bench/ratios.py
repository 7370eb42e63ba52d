"""What a strategy's readings are beside those of its reference lines, turn by turn.

A ratio is the median over turns, since the candidates of a turn ran side by side.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tokenprune.bench.reading import Reading

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


@dataclass(frozen=True)
class Ratio:
    """`top` of the strategy over `bottom` of another line; `inverse`: how many times less."""

    name: str
    top: Measure
    line: str
    bottom: Measure
    inverse: bool = False

    def of(self, lines: Lines) -> float | None:
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


def _same(name: str, measure: Measure, line: str, inverse: bool = False) -> Ratio:
    return Ratio(name, measure, line, measure, inverse)


RATIOS = (
    _same("prefill_speedup", llm_ms, "vanilla", inverse=True),
    _same("prefill_speedup_without_probe", without_probe_ms, "vanilla", inverse=True),
    _same("prefill_over_oracle", llm_ms, "oracle"),
    _same("prefill_over_random", llm_ms, "random"),
    _same("llm_prefill_over_oracle", _time("prefill_ms"), "oracle"),
    Ratio("strategy_over_vanilla_prefill", _time("strategy_ms"), "vanilla", _time("prefill_ms")),
    Ratio("probe_over_vanilla_prefill", _time("probe_ms"), "vanilla", _time("prefill_ms")),
    _same("ttft_speedup", _time("ttft_ms"), "vanilla", inverse=True),
    _same("ttft_over_oracle", _time("ttft_ms"), "oracle"),
    _same("decode_over_vanilla", _time("decode_ms_per_token"), "vanilla"),
    _same("decode_over_oracle", _time("decode_ms_per_token"), "oracle"),
    _same("memory_over_vanilla", _peak, "vanilla"),
    _same("memory_over_oracle", _peak, "oracle"),
    _same("kv_over_vanilla", _cache, "vanilla"),
    _same("kv_over_oracle", _cache, "oracle"),
    _same("prefill_over_vanilla", llm_ms, "vanilla"),
)
