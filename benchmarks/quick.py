"""Whether a change made anything slower, in under three minutes: `make bench-quick`.

    python benchmarks/quick.py [--save]

The ratios that have a bar, beside the last committed ones: `tokenprune bench` at
LLaVA-OneVision-0.5B's size on the CPU (four made-up frames, DyCoke choosing anew at every step; one
frame through the tower), decoding steps beside the stock model's on a model bound by Python, what
stages inside the vision tower save, operators against naive loops and the memory, and start-up.
DyToK's probe, lengths and batches are in `make efficiency`. It informs: a busy machine moves the
figures, so it is no test. `--save` writes `benchmarks/baseline.json`, of a clean checkout only.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import claims
import operators
import startup
import torch
import tower
import where
from rich.console import Console
from rich.table import Table

from tokenprune.bench import steps
from tokenprune.bench.config import parse_bench
from tokenprune.bench.run import bench
from tokenprune.results.record import environment

BASELINE = Path(__file__).with_name("baseline.json")
SHAPE = ("model=shape:llava-onevision-0.5b", "dtype=bfloat16", "device=cpu", "repeats=2")
BENCHES = (
    ("strategy=dycoke,fastv", "dycoke.threshold=2", "vision=random", "frames=4", "new_tokens=16"),
    ("strategy=visionzip", "frames=1", "new_tokens=2"),
)


class Figure(NamedTuple):
    value: float
    bar: float | None = None
    least: bool = False  # whether the bar is a minimum

    def claim(self) -> str:
        if self.bar is None:
            return ""
        missed = self.value < self.bar if self.least else self.value > self.bar
        return f"{'>=' if self.least else '<='} {self.bar:g} {'missed' if missed else 'met'}"


def benched(words: tuple[str, ...]) -> dict[str, Figure]:
    """Ratios of each strategy that have a bar."""
    with tempfile.TemporaryDirectory() as folder:
        config = parse_bench([*words, *SHAPE, f"out={folder}/out"])
        rows = bench(config, "make bench-quick").result["rows"]
    return {
        f"{row['spec']}: {bar.label}": Figure(row["ratios"][bar.name], bar.most)
        for row in rows
        for bar in claims.bars("cpu")
        if bar.name in claims.compared(row, config.new_tokens)
    }


def measured() -> dict[str, Figure]:
    found = {
        name: Figure(took, startup.CLAIMS[name]) for name, took in startup.milliseconds(3).items()
    }
    found = {f"{name}, ms": figure for name, figure in found.items()}
    for name, ratio in operators.ratios(rounds=2).items():
        found[f"{name}: times faster"] = Figure(ratio, operators.CLAIMS.get(name), least=True)
    for name, ratio in steps.over_full().items():
        found[f"decoding, {name}: over full"] = Figure(ratio, steps.BARS[name].over_full)
    for name, ratio in tower.ratios().items():
        found[f"tower, {name}: time saved over FLOPs"] = Figure(ratio, tower.LEAST, least=True)
    for words in BENCHES:
        found |= benched(words)
    return found


def main() -> None:
    save = "--save" in sys.argv[1:]
    if save and not where.clean():
        sys.exit(
            "benchmarks/quick.py: error: figures to be saved belong to a commit: commit or stash "
            "your changes first"
        )
    before = (
        json.loads(BASELINE.read_text(encoding="utf-8"))["figures"] if BASELINE.exists() else {}
    )
    print(where.line())
    now = measured()
    table = Table(title="now, and as last committed")
    for heading in ("figure", "now", "committed", "claim"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, figure in now.items():
        old = f"{before[name]:.3g}" if name in before else "-"
        table.add_row(name, f"{figure.value:.3g}", old, figure.claim())
    Console(width=110).print(table)
    print(f"{where.load()} after")
    if save:
        made = environment(torch.device("cpu"), torch.bfloat16, "python benchmarks/quick.py --save")
        result = {
            "environment": made,
            "figures": {name: figure.value for name, figure in now.items()},
        }
        BASELINE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"saved in {BASELINE}")


if __name__ == "__main__":
    main()
