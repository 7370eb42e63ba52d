"""The bars of this project in under three minutes, beside the last committed figures: `make bench-quick`.

    python benchmarks/quick.py [--save]

Ratios of `tokenprune bench` at LLaVA-OneVision-0.5B's size on the CPU (made-up features, and one frame through the
tower), operators against naive loops and the memory, and start-up. It informs: a busy machine moves the figures,
so it is no test. `--save` writes `benchmarks/baseline.json`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import operators
import startup
import torch
from rich.console import Console
from rich.table import Table

from tokenprune.bench.config import parse_bench
from tokenprune.bench.run import bench
from tokenprune.record import environment

BASELINE = Path(__file__).with_name("baseline.json")
SHAPE = ("model=shape:llava-onevision-0.5b", "dtype=bfloat16", "repeats=2")
BENCHES = (
    ("strategy=dycoke,fastv", "vision=random", "frames=4", "new_tokens=16"),
    ("strategy=visionzip", "frames=1", "new_tokens=2"),
)
BARS = {  # the most that the issue of each figure allows
    "llm_prefill_over_oracle": 1.05,
    "strategy_over_full_prefill": 0.05,
    "memory_over_oracle": 1.02,
    "decode_over_oracle": 1.05,
    "decode_over_full": 1.0,
}


def benched(words: tuple[str, ...]) -> dict[str, tuple[float, str]]:
    """Ratios of each strategy that have a bar, and the bar."""
    with tempfile.TemporaryDirectory() as folder:
        config = parse_bench([*words, *SHAPE, f"out={folder}/out"])
        rows = bench(config, "make bench-quick").result["rows"]
    found = {}
    for row in rows:
        for name, bar in BARS.items():
            if name == "decode_over_full" and row["own"]["decode_selection_changes"] is None:
                continue  # without a decode stage it decodes as a dense model of what it kept
            found[f"{row['strategy']}: {name}"] = (row["ratios"][name], f"<= {bar:g}")
    return found


def measured() -> dict[str, tuple[float, str]]:
    """Every figure by name, and what is claimed about it."""
    found = {
        name: (took / 1e3, f"<= {startup.CLAIMS[name] / 1e3:g} s") for name, took in startup.milliseconds(3).items()
    }
    for name, ratio in operators.ratios(rounds=2).items():
        claim = operators.CLAIMS.get(name)
        found[f"{name}: times faster"] = (ratio, "" if claim is None else f">= {claim:g}")
    for words in BENCHES:
        found |= benched(words)
    return found


def main() -> None:
    before = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {"figures": {}}
    busy = os.getloadavg()[0]
    now = measured()
    table = Table(title="now, and as last committed")
    for heading in ("figure", "now", "committed", "claim"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, (value, claim) in now.items():
        old = before["figures"].get(name)
        table.add_row(name, f"{value:.3g}", "-" if old is None else f"{old:.3g}", claim)
    Console(width=110).print(table)
    print(f"load {busy:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")
    if "--save" in sys.argv[1:]:
        where = environment(torch.device("cpu"), torch.bfloat16, "python benchmarks/quick.py --save")
        result = {"environment": {**where, "load": busy}, "figures": {name: value for name, (value, _) in now.items()}}
        BASELINE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"saved in {BASELINE}")


if __name__ == "__main__":
    main()
