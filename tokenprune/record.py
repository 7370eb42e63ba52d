"""Results on disk: `summary.json`, `records.jsonl` and `config.yaml`, all of them or none."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import tokenprune
from tokenprune.config import ConfigError, RunConfig
from tokenprune.outcome import Outcome, System
from tokenprune.resolve import resolved_fields
from tokenprune.summary import roles


@contextmanager
def results_folder(out: str | None, spec: str) -> Iterator[tuple[Path, Path]]:
    """A folder to write into and the one it becomes when the block ends: `out`, or `runs/<time>-<spec>`.

    If the block raises nothing is left. Raises ConfigError for a folder that holds something, before anything is run.
    """
    final = Path(out).expanduser() if out else _unused(Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{spec}")
    if final.exists() and not final.is_dir():
        raise ConfigError(f"out={out} is a file: write a folder that does not exist yet")
    if final.is_dir() and any(final.iterdir()):
        raise ConfigError(f"out={out} is not empty: write a folder that does not exist yet, or remove it")
    draft = final.parent / f".{final.name}.{os.getpid()}.partial"
    made = [parent for parent in final.parents if not parent.exists()]
    try:
        draft.mkdir(parents=True)
        yield draft, final
        if final.exists():
            final.rmdir()
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def _unused(wanted: Path) -> Path:
    """`wanted`, or with a number behind it if another run began in the same second."""
    candidate, number = wanted, 2
    while candidate.exists():
        candidate, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return candidate


def write(
    folder: Path,
    summary: Mapping[str, Any],
    systems: Sequence[System],
    prompts: Mapping[str, str],
    config: RunConfig,
) -> None:
    """The three files of a run; `prompts` are the chat turns by sample id."""
    from omegaconf import OmegaConf

    lines = [json.dumps(line, allow_nan=False) for line in _records(systems, prompts)]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = json.dumps(summary, indent=2, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    resolved = {
        "run": dataclasses.asdict(config),
        "systems": {system.label: resolved_fields(system.pipeline) for system in systems if system.pipeline},
        "environment": summary["environment"],
    }
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(resolved)), encoding="utf-8")


def _records(systems: Sequence[System], prompts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One dictionary per sample: what was asked, and what each system answered, kept and took."""
    cast = roles(systems)
    for own, vanilla, random in zip(*(cast[role].outcomes for role in ("own", "vanilla", "random")), strict=True):
        yield {
            "id": own.id,
            "category": own.category,
            "question": own.question,
            "prompt": prompts[own.id],
            "answer": own.answer,
            "prediction": own.prediction,
            "score": own.score,
            "own": _outcome(own),
            "vanilla": _outcome(vanilla),
            "random": _outcome(random),
        }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    kept = outcome.report.as_dict()
    if not outcome.report.stages:
        del kept["slots"]  # all of them
    return {
        "prediction": outcome.prediction,
        "score": outcome.score,
        "tokens": kept,
        "flops_ratio": outcome.flops_ratio,
        "guide_flops_ratio": outcome.guide_flops_ratio,
        "time": outcome.time,
    }


def environment(device: torch.device, dtype: torch.dtype, command: str) -> dict[str, Any]:
    """Everything about the machine and the software that a number may depend on."""
    return {
        "command": command,
        "git_revision": _git_revision(Path(tokenprune.__file__).parent.parent),
        "versions": {
            "tokenprune": tokenprune.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "lightning", "torchmetrics", "av", "numpy")},
        },
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _git_revision(root: Path) -> str | None:
    """The commit this code was checked out from (`-dirty` if changed since); None if it was installed without git."""
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
