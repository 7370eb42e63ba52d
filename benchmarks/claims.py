"""Which ratios of a bench have a bar, and the table that marks those that miss it."""

from __future__ import annotations

from typing import Any, NamedTuple

from tokenprune.bench.columns import OVER_FLOOR, named
from tokenprune.bench.ratios import EVERY, RATIOS, SPEC
from tokenprune.results.column import Column
from tokenprune.results.table import markdown

# ratios, and the most that is claimed: on a CPU, on a GPU
BARS = {
    "llm_prefill_over_oracle": (1.05, 1.05),
    "strategy_over_vanilla_prefill": (0.05, 0.02),
    "memory_over_oracle": (1.02, 1.02),
    "decode_over_oracle": (1.05, 1.05),
    "decode_over_vanilla": (1.0, 1.0),
}
OTHERS = (
    "prefill_over_oracle",
    "probe_over_vanilla_prefill",
    "prefill_speedup",
    "prefill_speedup_without_probe",
    "ttft_speedup",
    "papers_prefill_over_vanilla",
    "exact_prefill_over_vanilla",
    "prefill_over_vanilla",
    *(one.name for one in OVER_FLOOR),
)


class Bar(NamedTuple):
    """A ratio and the most that is claimed of it."""

    name: str
    label: str
    most: float


def bars(device: str) -> list[Bar]:
    """Ratios with a bar on this device."""
    on_gpu = device.startswith("cuda")
    labels = [" ".join(ratio.heading.split()) for ratio in named(RATIOS, tuple(BARS))]
    mosts = [gpu if on_gpu else cpu for cpu, gpu in BARS.values()]
    return [Bar(*each) for each in zip(BARS, labels, mosts, strict=True)]


def compared(row: dict[str, Any], tokens: int) -> set[str]:
    """Which of these ratios say something.

    Few steps are noise, and only a decode stage has to beat the full model.
    """
    left_out = {"decode_over_oracle", "decode_over_vanilla"} if tokens < 16 else set[str]()
    if row["strategy"]["decode_selection_changes"] is None:
        left_out.add("decode_over_vanilla")
    return set(BARS) - left_out


def known(column: Column, lines: list[dict[str, Any]]) -> bool:
    """Whether anything was measured of it: older benches have no floors."""
    return any(line.get(column.name) is not None for line in lines)


def ratio_table(rows: list[dict[str, Any]], claims: list[Bar], tokens: int) -> str:
    """Ratios with a bar, which is in the heading, then the others; bold misses its bar."""
    barred = [Column(bar.name, f"{bar.label} (≤ {bar.most:g})", "") for bar in claims]
    lines = []
    for row in rows:
        line = {"spec": row["spec"], **row["ratios"]}
        said = compared(row, tokens)
        for bar in claims:
            value = line[bar.name]
            line[bar.name] = marked(value, bar.most) if bar.name in said else None
        lines.append(line)
    others = [one for one in named(EVERY, OTHERS) if known(one, lines)]
    return markdown(lines, [SPEC, *barred, *others])


def marked(value: float, most: float) -> str:
    return f"**{value:.3f}**" if value > most else f"{value:.3f}"
