"""What one turn of one candidate measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tokenprune.runtime.stage_report import ProbeReport
from tokenprune.runtime.tower_report import TowerLayer

PARTS = ("vision_ms", "strategy_ms", "probe_ms", "prefill_ms")  # before the first token
TIMES = (*PARTS, "ttft_ms", "decode_ms_per_token", "total_ms")


class Seen(NamedTuple):
    """What a pass worked on."""

    layers: list[float]  # visual rows of one sample that each LLM layer saw at prefill
    decode: list[float]  # and attends to in a decoding step, mean over steps
    probe: ProbeReport = ProbeReport()  # what an allocator's guide read
    # decoding steps that attended to other visual rows than the step before them
    changes: int | None = None
    # what each tower layer worked on, under a stage inside the tower
    tower: Sequence[TowerLayer] = ()


@dataclass(frozen=True)
class Reading:
    """Times are in milliseconds for the whole batch, from prepared pixels on."""

    times: Mapping[str, float]  # by the names of TIMES
    peak: float | None  # bytes
    cache: float  # bytes, after the last token
    seen: Seen
