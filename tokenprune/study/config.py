"""What a study is: a YAML file, and `KEY=VALUE` words that override it, against one dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.evaluation import logs
from tokenprune.evaluation.config import default_frames
from tokenprune.options import (
    Size,
    check_counts,
    check_sampling,
    check_short,
    from_file,
    from_mapping,
    given,
    key,
    keys_of,
    load_file,
)
from tokenprune.study.launcher import Launched

SELF = "self"  # the assistant that is the model itself


@dataclass(frozen=True)
class Method:
    """A strategy under study: `strategy=` and its options for a run, and what tables call it."""

    spec: str = ""
    label: str = ""  # the spec by default
    options: dict[str, Any] = field(default_factory=dict)  # as in {"fastv.layer": 1}
    # guides an allocator that the spec itself names; null: the model itself
    assistant: str | None = None


@dataclass(frozen=True)
class CellConfig(Launched):
    """What all cells of a study, or of a sweep, are run with."""

    model: str = key("tiny", "tiny (embedded), a folder, or a hub id")
    task: str = key("tinyvqa", "samples to evaluate on, as in `tokenprune run`")
    include_path: str | None = key(None, "a folder of task YAML files of yours, for task=lmms:NAME")
    judge: str | None = key(None, "the model that judges answers, where a task of lmms-eval asks")
    frames: int | None = key(None, "frames per video; 32 of lmms:NAME, else 16")
    sampling: str = key("index", "frames of a file evenly by number (index) or by the clock (time)")
    short: str = key("once", "a video with fewer frames shows each once, or repeat some")
    samples: int | None = key(None, "how many samples the task makes; its own number by default")
    limit: int | None = key(None, "evaluate at most this many samples")
    seed: int = key(0, "of samples, random draws and resampling")
    max_new_tokens: int | None = key(
        None, "longest answer, in tokens; a benchmark's own, else 1024 of lmms:NAME and 48"
    )
    batch_size: Size = key(
        1, "samples per forward pass; auto: as many as fit into memory", example="8, or auto"
    )
    device: str = key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = key(
        "auto",
        "auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the checkpoint's",
    )
    workers: int | None = key(None, "processes; as many as cores on a CPU, else 1")
    trainer: dict[str, Any] = key(
        dict, "trainer.logger=csv, tensorboard, wandb or mlflow: logs every cell as it is finished"
    )
    plugin: list[str] = key(
        list, "a Python file of yours that defines strategies; may be repeated", repeated=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "frames", "samples", "limit", "max_new_tokens", "batch_size", "workers")
        for name in self.trainer:
            if name != logs.KEY:
                raise ConfigError(
                    f"trainer.{name}= is a key of `tokenprune run`: cells take trainer.logger="
                )
        logs.check(self.trainer)
        check_sampling(self.sampling)
        check_short(self.short)
        if self.frames is None:
            object.__setattr__(self, "frames", default_frames(self.task))  # the class is frozen


@dataclass(frozen=True)
class StudyConfig(CellConfig):
    """Everything a study can be told, and the schema of its file."""

    name: str = key("", "what its files are called; the task by default")
    strategies: list[Method] = field(default_factory=list)
    retentions: list[float] = key(
        lambda: [1.0, 0.5, 0.25], "fractions of tokens, as whole tokens per frame"
    )
    allocator: str | None = key("dytok", "strategy added to each that has a budget; null for none")
    assistants: list[str] = key(
        lambda: [SELF], "models that guide the allocator; self: the model itself"
    )
    resamples: int = key(10_000, "of the bootstrap")
    out: str | None = key(
        None, "folder for finished cells, which a second call does not run again; runs/<file>"
    )
    report: str | None = key(None, "folder for the page, its plots and table; out by default")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "resamples")
        if not self.strategies or not all(method.spec for method in self.strategies):
            raise ConfigError(
                "a study needs strategies: write `strategies: [{spec: dycoke}, {spec: random}]`"
            )
        if not self.retentions or not all(0.0 < ratio <= 1.0 for ratio in self.retentions):
            raise ConfigError(
                f"retentions={self.retentions}: write fractions above 0 and up to 1, as in [1.0, "
                "0.5]"
            )
        if twice := _twice([label_of(method) for method in self.strategies]):
            raise ConfigError(
                f"two strategies are called {twice!r}: give one of them another label"
            )
        if twice := _twice(self.assistants):
            raise ConfigError(f"the assistant {twice!r} is named twice")


def _twice(names: Sequence[str]) -> str | None:
    """The first name that stands there more than once."""
    return next((name for name in sorted(names) if names.count(name) > 1), None)


def label_of(method: Method) -> str:
    return method.label or method.spec


KEYS = tuple(keys_of(StudyConfig))


@dataclass(frozen=True)
class _Words(StudyConfig):
    """What stands on the command line."""

    files: list[str] = field(default_factory=list)  # words without a key: the study's own file


def read_study(words: Sequence[str]) -> tuple[Path, StudyConfig]:
    """The study that `FILE KEY=VALUE ...` describes, and its file. Raises ConfigError."""
    told = given(_Words, words, section="study", bare="files")
    files = told.pop("files", [])
    if len(files) != 1:
        example = "as in `tokenprune study experiments/tinyvqa_retention.yaml`"
        found = f"not {len(files)}" if files else example
        raise ConfigError(f"a study is one YAML file, {found}")
    name = files[0]
    if Path(name).is_dir():
        raise ConfigError(f"{name} is a folder: name the YAML file of a study")
    return Path(name), StudyConfig(**{**_in_file(name), **told})


def _in_file(name: str) -> dict[str, Any]:
    """The fields that a file sets; in one that `print=true` has shown they stand below `study:`."""
    content = load_file(name)
    if isinstance(content.get("study"), Mapping):
        return from_file(StudyConfig, name, "study")
    return from_mapping(StudyConfig, content, name)


def folder_of(file: Path, config: StudyConfig) -> Path:
    """Where a study's cells go."""
    return Path(config.out).expanduser() if config.out else Path("runs") / file.stem


def command(file: Path, words: Sequence[str]) -> str:
    """The command that makes the same numbers, without what is true of one machine only."""
    local = re.compile(r"(out|report|workers|launcher|jobs|slurm\.\w+|trainer\.logger)=")
    kept = [word for word in words if "=" in word and not local.match(word)]
    name = file.name if file.is_absolute() else file.as_posix()
    return " ".join(["tokenprune study", name, *kept])
