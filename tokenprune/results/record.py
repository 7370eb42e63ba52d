"""A run on disk: `config.yaml`, `records.jsonl`, `report.md` and, when they are whole,
`summary.json`.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import tokenprune
from tokenprune.registry import resolved_fields
from tokenprune.results import begun
from tokenprune.results.answer import ASKED, ROLES, Answer
from tokenprune.results.files import RECORDS, REPORT, SUMMARY
from tokenprune.results.report import report
from tokenprune.results.summary import Summary
from tokenprune.results.system import System
from tokenprune.storage import replace


def begin(folder: Path, given: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    """Writes what a run was given and what it is made with, from which it can be resumed."""
    begun.write(folder, {"run": dict(given), "made_with": made_with})


def write(
    folder: Path,
    summary: Summary,
    systems: Sequence[System],
    prompts: Mapping[str, str],
    given: Mapping[str, Any],
    made_with: Mapping[str, Any],
) -> None:
    """The four files of a run, the summary last; `prompts` are the chat turns by sample id."""
    lines = [json.dumps(line, allow_nan=False) for line in records(systems, prompts)]
    replace(folder / RECORDS, "\n".join(lines) + "\n")
    resolved = {
        "run": dict(given),
        "systems": {
            system.name: resolved_fields(system.pipeline) for system in systems if system.pipeline
        },
        "environment": summary.environment,
        "made_with": made_with,
    }
    begun.write(folder, resolved)
    replace(folder / REPORT, report(summary, systems))
    replace(folder / SUMMARY, json.dumps(summary.as_dict(), indent=2, allow_nan=False) + "\n")


def records(systems: Sequence[System], prompts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One dictionary per sample: what was asked, and by role what was answered, kept and taken."""
    ordered = sorted(systems, key=lambda system: ROLES.index(system.name))
    for answers in zip(*(system.answers for system in ordered), strict=True):
        line = answers[0].as_dict()
        asked = {name: line[name] for name in ASKED}
        made = {system.name: _own(one) for system, one in zip(ordered, answers, strict=True)}
        yield {**asked, "prompt": prompts.get(answers[0].id), **made}


def _own(answer: Answer) -> dict[str, Any]:
    """What is the system's alone, and not the sample's."""
    line = {name: value for name, value in answer.as_dict().items() if name not in ASKED}
    if line["verdict"] is None:  # no judge
        del line["verdict"]
    if not line["tokens"].get("stages"):  # then its slots are all of them
        line["tokens"] = {name: value for name, value in line["tokens"].items() if name != "slots"}
    return line


def environment(device: torch.device, dtype: torch.dtype, command: str) -> dict[str, Any]:
    """Everything about the machine and the software that a number may depend on."""
    return {
        "command": command,
        "git_revision": _git_revision(Path(tokenprune.__file__).parent.parent),
        "versions": {
            "tokenprune": tokenprune.__version__,
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("torch", "transformers", "lightning", "torchmetrics", "av", "numpy")
            },
        },
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else processor_name(),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def processor_name() -> str:
    """The CPU's name as Linux knows it, elsewhere what Python has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _git_revision(root: Path) -> str | None:
    """The commit this code was checked out from (`-dirty` if changed since); None if it was
    installed without git.
    """
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
