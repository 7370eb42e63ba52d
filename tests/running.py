"""Runs of the command for tests: quick options, another process, and what is left of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FAST = ["device=cpu", "frames=8", "max_new_tokens=4", "report=false"]
# of a summary: how long it took, where, on how many
VARIES = {"environment", "vanilla_key", "systems"}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and records."""
    return json.loads((folder / "summary.json").read_text()), records(folder)


def lasting(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and records without times."""
    summary = json.loads((folder / "summary.json").read_text())
    systems = {
        role: {name: value for name, value in system.items() if "_ms" not in name}
        for role, system in summary["systems"].items()
    }
    lines = records(folder)
    for line in lines:
        for role in systems:
            del line[role]["time"]
    return {key: value for key, value in summary.items() if key not in VARIES} | {
        "systems": systems
    }, lines


def chance() -> random.Random:
    """Another draw in every run of the tests; a failure shows how to repeat it."""
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    print(f"drawn with SEED={seed}")
    return random.Random(seed)


def start(log: Path, *words: str) -> subprocess.Popen[bytes]:
    """`tokenprune run` in a process group of its own; what it says goes to `log`."""
    command = [sys.executable, "-m", "tokenprune", "run", *words]
    threads = {"OMP_NUM_THREADS": "1"}
    with log.open("ab") as stream:
        return subprocess.Popen(
            command,
            env={**os.environ, **threads},
            stderr=stream,
            start_new_session=True,
            preexec_fn=_heed,
        )


def _heed() -> None:
    """Ctrl-C is heard: a shell that started the tests in the background had it ignored by all."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def annotate(folder: Path, videos: dict[str, Path]) -> str:
    """`task=files:` of one sample per video, with questions of different lengths."""
    file = folder / "annotations.jsonl"
    lines = [
        {
            "id": name,
            "video": str(path),
            "question": "What moves" + " there" * (number % 3) + "?",
            "answer": "yes",
        }
        for number, (name, path) in enumerate(videos.items())
    ]
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return f"task=files:{file}"
