"""The columns of a bench: figures of a system, in the form of the columns of all results.

`bench.json` has them by name; terminals and pages show headings. Ratios are in `ratios`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tokenprune.results.column import Column, Row

C = TypeVar("C", bound=Column)


@dataclass(frozen=True)
class Figure(Column):
    """A column with the digits that people read; `scale` is its unit in terms of the file's."""

    digits: str = ".1f"
    scale: float = 1.0

    def text(self, row: Row) -> str:
        value = row.get(self.name)
        if value is None:
            return "-"
        return value if isinstance(value, str) else f"{value / self.scale:{self.digits}}"


SYSTEM = Column("system", "system", "what was measured", str)
FIGURES = (
    Figure(
        "layer_average_tokens",
        "tokens\nlayer avg",
        "visual tokens of a sample, mean over LLM layers at prefill",
        digits=".0f",
    ),
    Figure("video_ms", "video", "decoding the file, once for all systems", unit="ms"),
    Figure("preprocess_ms", "preprocessing", "frames to pixels, likewise", unit="ms"),
    Figure("vision_ms", "vision", "tower, projector and merging", unit="ms"),
    Figure("strategy_ms", "strategy", "stages before the first token, no probe", unit="ms"),
    Figure("probe_ms", "probe", "the pass of an allocator's guide", unit="ms"),
    Figure("prefill_ms", "prefill", "the LLM's pass over the prompt, without these", unit="ms"),
    Figure("ttft_ms", "TTFT", "prepared pixels to the first token on the CPU", unit="ms"),
    Figure("decode_ms_per_token", "decode", "a decoding step", unit="ms/token"),
    Figure("total_ms", "total", "the file to the last token", unit="ms"),
    Figure("vision_floor_ms", "vision\nfloor", "the least that the vision part takes", unit="ms"),
    Figure("prefill_floor_ms", "prefill\nfloor", "the least that the prefill takes", unit="ms"),
    Figure("decode_floor_ms", "decode\nfloor", "the least that a step takes", unit="ms/token"),
    Figure(
        "decode_cache_share",
        "cache\nshare",
        "of the bytes that a decoding step reads, those of keys and values",
        unit="%",
        scale=0.01,
    ),
    Figure("decode_tokens_per_s", "", "new tokens of the whole batch in a second"),
    Figure(
        "peak_memory_bytes",
        "peak",
        "memory at its peak",
        int,
        unit="MB",
        digits=".0f",
        scale=1e6,
    ),
    Figure("kv_bytes", "KV", "the cache after the last token", int, unit="MB", scale=1e6),
    Figure(
        "papers_flops",
        "papers",
        "multiply-adds of a sample as papers count them",
        unit="GFLOPs",
        digits=".4g",
        scale=1e9,
    ),
    Figure("papers_prefill_flops", "", "the part of it before the first token"),
    Figure(
        "exact_flops",
        "exact",
        "multiply-adds of every matrix product",
        unit="GFLOPs",
        digits=".4g",
        scale=1e9,
    ),
    Figure("exact_prefill_flops", "", "the LLM's part of it before the first token"),
    Figure("exact_tower_flops", "", "the vision tower's part of it"),
)


# times over their floors, of every system: `prefill` is with strategy and probe, as over the oracle
OVER_FLOOR = (
    Figure("vision_over_floor", "vision\n/ floor", "tower and projector", digits=".2f"),
    Figure("prefill_over_floor", "prefill\n/ floor", "strategy and probe included", digits=".2f"),
    Figure("decode_over_floor", "decode\n/ floor", "of a decoding step", digits=".2f"),
)


def named(columns: Iterable[C], names: Sequence[str]) -> list[C]:
    """Those of `columns`, in the order of `names`."""
    known = {column.name: column for column in columns}
    return [known[name] for name in names]
