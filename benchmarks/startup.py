"""How long the command line takes to start: `python benchmarks/startup.py`.

Medians of whole processes that take turns; of two figures, less what Python or `import torch` takes
alone.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import where

ROUNDS = 7
CLAIMS = {  # milliseconds, at most
    "import tokenprune, beyond python": 50,
    "tokenprune --help, all of it": 300,
    "tokenprune list, beyond torch": 300,
}
COMMAND = "import sys; from tokenprune.cli.main import main; sys.exit(main(sys.argv[1:]))"
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
    found = (middle["import"] - middle["python"], middle["help"], middle["list"] - middle["torch"])
    return dict(zip(CLAIMS, found, strict=True))


def main() -> None:
    print(where.line())
    print(f"start-up, medians of {ROUNDS} processes each")
    for name, took in milliseconds().items():
        print(f"{name:36s}{took:8.0f} ms   (claim: at most {CLAIMS[name]})")


if __name__ == "__main__":
    main()
