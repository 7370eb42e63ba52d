"""What a study is: a YAML file, and `KEY=VALUE` words that override it, against one dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import default_frames
from tokenprune.options import (
    check_counts,
    check_sampling,
    key,
    nearest,
    one_of,
    own_first,
    structured,
)
from tokenprune.options import read as read_word

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
class CellConfig:
    """What all cells of a study, or of a sweep, are run with."""

    model: str = key("tiny", "tiny (embedded), a folder, or a hub id")
    task: str = key("tinyvqa", "samples to evaluate on, as in `tokenprune run`")
    frames: int | None = key(None, "frames per video; 32 of lmms:NAME, else 16")
    sampling: str = key("index", "frames of a file evenly by number (index) or by the clock (time)")
    samples: int | None = key(None, "how many samples the task makes; its own number by default")
    limit: int | None = key(None, "evaluate at most this many samples")
    seed: int = key(0, "of samples, random draws and resampling")
    max_new_tokens: int | None = key(
        None, "longest answer, in tokens; a benchmark's own, else 1024 of lmms:NAME and 48"
    )
    batch_size: int = key(1, "samples per forward pass")
    device: str = key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = key(
        "auto",
        "auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the checkpoint's",
    )
    workers: int | None = key(None, "processes; as many as cores on a CPU, else 1")
    plugin: str | None = key(None, "a Python file of yours that defines strategies")

    def __post_init__(self) -> None:
        check_counts(self, "frames", "samples", "limit", "max_new_tokens", "batch_size", "workers")
        check_sampling(self.sampling)
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
        labels = [label_of(method) for method in self.strategies]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ConfigError(
                f"two strategies are called {twice[0]!r}: give one of them another label"
            )
        if twice := sorted({name for name in self.assistants if self.assistants.count(name) > 1}):
            raise ConfigError(f"the assistant {twice[0]!r} is named twice")


def label_of(method: Method) -> str:
    return method.label or method.spec


_FILE_ONLY = ("strategies",)
KEYS = tuple(key.name for key in own_first(StudyConfig))
WORDS = tuple(key for key in KEYS if key not in _FILE_ONLY)


def read(words: Sequence[str]) -> tuple[Path, StudyConfig]:
    """The study that `FILE KEY=VALUE ...` describes, and its file. Raises ConfigError, OSError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for word in words:
        if word.startswith(("-", "=")):
            raise one_of(word, WORDS)
    files = [word for word in words if "=" not in word]
    if len(files) != 1:
        found = (
            f"not {len(files)}"
            if files
            else "as in `tokenprune study experiments/tinyvqa_retention.yaml`"
        )
        raise ConfigError(f"a study is one YAML file, {found}")
    file = Path(files[0])
    if file.is_dir():
        raise ConfigError(f"{files[0]} is a folder: name the YAML file of a study")
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(file))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{files[0]} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{files[0]} holds no keys: write KEY: VALUE, one a line")
    given = {str(key): value for key, value in loaded.items()}
    _known(given, KEYS, files[0])
    for word in words:
        if word in files:
            continue
        name = word.partition("=")[0]
        _known([name], WORDS, word)
        given[name] = read_word(word)
    return file, _typed(given, files[0])


def _typed(given: Mapping[str, Any], where: str) -> StudyConfig:
    from omegaconf import OmegaConf

    methods = given.get("strategies") or []
    if not isinstance(methods, list) or not all(isinstance(method, Mapping) for method in methods):
        raise ConfigError(
            f"strategies in {where} is not a list of strategies: write `- spec: dycoke`, one a line"
        )
    for method in methods:
        _known(method, [key.name for key in dataclasses.fields(Method)], f"strategies in {where}")
    return OmegaConf.to_object(structured(StudyConfig, given))  # pyright: ignore[reportReturnType]  the dataclass itself


def _known(names: Mapping[str, Any] | Sequence[str], keys: Sequence[str], where: str) -> None:
    for name in names:
        if name not in keys:
            near = nearest(str(name), keys)
            hint = f"did you mean {near!r}? " if near else ""
            raise ConfigError(f"unknown key {name!r} in {where}: {hint}Keys: {', '.join(keys)}")


def command(file: Path, words: Sequence[str]) -> str:
    """The command that makes the same numbers, without what is true of one machine only."""
    local = re.compile(r"(out|report|workers)=")
    kept = [word for word in words if "=" in word and not local.match(word)]
    return " ".join(
        ["tokenprune study", file.name if file.is_absolute() else file.as_posix(), *kept]
    )
