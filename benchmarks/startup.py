"""How long the command line takes to start: `python benchmarks/startup.py`.

Claims: `import tokenprune` at most 50 ms beyond Python's own start, `tokenprune --help` at most 300 ms in all, and
`tokenprune list` at most 300 ms more than `import torch`. Medians of whole processes that take turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 7
COMMAND = "import sys; from tokenprune.cli import main; sys.exit(main(sys.argv[1:]))"
PROCESSES = {
    "python": ["-c", "pass"],
    "import": ["-c", "import tokenprune"],
    "help": ["-c", COMMAND, "--help"],
    "torch": ["-c", "import torch"],
    "list": ["-c", COMMAND, "list"],
}


def milliseconds(rounds: int = ROUNDS) -> dict[str, float]:
    """What is claimed about each; the first round warms the disk's cache."""
    taken: dict[str, list[float]] = {name: [] for name in PROCESSES}
    for _ in range(rounds + 1):
        for name, words in PROCESSES.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            taken[name].append(1e3 * (time.perf_counter() - began))
    middle = {name: statistics.median(times[1:]) for name, times in taken.items()}
    return {
        "import tokenprune": middle["import"] - middle["python"],
        "tokenprune --help": middle["help"],
        "tokenprune list": middle["list"] - middle["torch"],
    }


CLAIMS = {"import tokenprune": 50, "tokenprune --help": 300, "tokenprune list": 300}


def main() -> None:
    print(f"start-up, medians of {ROUNDS} processes each, load {os.getloadavg()[0]:.1f}")
    for name, took in milliseconds().items():
        print(f"{name:20s}{took:8.0f} ms   (claim: at most {CLAIMS[name]})")


if __name__ == "__main__":
    main()
