"""What a run is: words like `strategy=dycoke+dytok frames=8 dycoke.merge=0.5`, checked against one dataclass.

And what an export is, likewise.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """A word on the command line that means nothing, or that contradicts another; the message says what to write."""


def _key(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class RunConfig:
    """Everything `tokenprune run` can be told, and the schema of it."""

    strategy: str = _key("", "methods joined by +, as in dycoke+dytok; see `tokenprune list`")
    plugin: str | None = _key(None, "a Python file of yours that defines strategies")
    model: str = _key("tiny", "tiny (embedded), a folder, or a hub id")
    task: str = _key("tinyvqa", "tinyvqa (embedded), files:PATH of an annotations file, or lmms:NAME of lmms-eval")
    include_path: str | None = _key(None, "a folder of task YAML files of yours, for task=lmms:NAME")
    video: str | None = _key(None, "a video file to ask about, instead of a task")
    question: str | None = _key(None, "what to ask about the video")
    frames: int | None = _key(None, "frames per video, spread evenly; 32 of a file, 16 of a task")
    samples: int | None = _key(None, "how many samples the task makes; its own number by default")
    limit: int | None = _key(None, "evaluate at most this many samples")
    max_new_tokens: int | None = _key(None, "longest answer, in tokens; a benchmark's own, or 48")
    batch_size: int = _key(1, "samples per forward pass")
    seed: int = _key(0, "of the task's samples and of random draws")
    device: str = _key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = _key("auto", "auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the checkpoint's")
    assistant: str | None = _key(None, "a smaller model of the same family that weighs frames for dytok")
    out: str | None = _key(None, "folder for the results; runs/<time>-<strategy> by default")
    resume: str | None = _key(None, "folder of a run that did not finish: goes on with it, needs nothing else")
    on_error: str = _key("record", "record a video that cannot be read and go on, or stop")
    reuse: bool = _key(True, "take the full model's answers from a run beside this one, if nothing has changed")
    workers: int | None = _key(None, "processes that decode videos; one per spare core, at most 4, for files")
    trainer: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Lightning's: trainer.devices=2 trainer.strategy=ddp trainer.num_nodes=2 ..."},
    )
    options: dict[str, Any] = field(default_factory=dict)  # of strategies, as {"dycoke": {"merge": 0.5}}

    def __post_init__(self) -> None:
        for name in ("frames", "samples", "limit", "max_new_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} is no number of anything: write at least 1")
        if self.workers is not None and self.workers < 0:
            raise ConfigError(f"workers={self.workers}: write 0 to decode in the process that evaluates, or more")
        if self.on_error not in ("record", "stop"):
            raise ConfigError(f"on_error={self.on_error} is unknown: write record or stop")
        for name in self.trainer:
            if name not in TRAINER:
                raise ConfigError(f"unknown key 'trainer.{name}'{_nearest(name, TRAINER)} Keys: {', '.join(TRAINER)}")
        if self.include_path is not None and not self.task.startswith("lmms:"):
            raise ConfigError("include_path= holds tasks of lmms-eval: write task=lmms:NAME too, or leave it out")
        if self.video is not None and not self.question:
            raise ConfigError(f'video={self.video} needs a question about it: add question="What happens?"')
        if self.question is not None and self.video is None:
            raise ConfigError("question= needs a video to ask about: add video=FILE")


TRAINER = ("accelerator", "devices", "num_nodes", "precision", "strategy")  # of Lightning's Trainer
_FREE = ("out", "resume", "workers", "trainer", "on_error", "device")  # what a resumed run may do otherwise

# taken as typed: a question may hold anything that YAML would read as something else
_TEXT = tuple(key.name for key in dataclasses.fields(RunConfig) if str(key.type).startswith("str"))
_KEYS = tuple(key.name for key in dataclasses.fields(RunConfig) if key.name not in ("options", "trainer"))
_TASK_ONLY = ("task", "samples", "limit", "batch_size", "include_path")


def parse(words: Sequence[str]) -> RunConfig:
    """The run that `KEY=VALUE` words describe; keys with a dot are options of strategies. Raises ConfigError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    plain: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"{word!r} is no KEY=VALUE: write {_instead_of(word)}")
        if "." not in name and name not in _KEYS:
            raise ConfigError(
                f"unknown key {name!r}{_nearest(name, _KEYS)} Keys: {', '.join(_KEYS)}, and STRATEGY.FIELD"
            )
        if name in _TEXT:
            plain[name] = None if value == "null" else value
            continue
        try:
            read = OmegaConf.select(OmegaConf.from_dotlist([word]), name, throw_on_missing=True)
            read = OmegaConf.to_container(read, resolve=True) if OmegaConf.is_config(read) else read
            (options if "." in name else plain)[name] = read
        except (OmegaConfBaseException, YAMLError) as error:
            raise ConfigError(f"{word!r} cannot be read: {str(error).splitlines()[0]}") from None
    if (given := [key for key in _TASK_ONLY if key in plain]) and plain.get("video") is not None:
        raise ConfigError(f"{given[0]}= goes with a task, and video= asks about one file: leave one of them out")
    trainer = {name.removeprefix("trainer."): options.pop(name) for name in list(options) if _is_trainer(name)}
    return _resumed(plain, options, trainer) if plain.get("resume") else _typed(plain, options, trainer)


def _is_trainer(name: str) -> bool:
    return name.startswith("trainer.")


def _resumed(plain: dict[str, Any], options: dict[str, Any], trainer: dict[str, Any]) -> RunConfig:
    """The configuration in the folder `resume`; what is said again has to be the same."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    folder = Path(plain["resume"]).expanduser()
    try:
        saved: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))["run"]  # pyright: ignore
        before = RunConfig(**saved)
    except FileNotFoundError:
        raise ConfigError(f"resume={plain['resume']} holds no run: name the folder that one was writing") from None
    except (OmegaConfBaseException, YAMLError, TypeError, KeyError, UnicodeDecodeError):
        raise ConfigError(f"config.yaml in resume={plain['resume']} is not that of a run of this version") from None
    now = _typed({**saved, "options": None, "trainer": None} | plain, {**before.options, **options}, trainer)
    for name in (*_KEYS, "options"):
        if name not in _FREE and getattr(now, name) != getattr(before, name):
            raise ConfigError(_changed(name, getattr(before, name), getattr(now, name), str(plain["resume"])))
    return dataclasses.replace(now, trainer={**before.trainer, **trainer})


def _changed(name: str, before: Any, now: Any, folder: str) -> str:
    if name == "options":
        name = next(key for key in now if before.get(key) != now[key])
        before, now = before.get(name, "its default"), now[name]
    return f"resume={folder} was begun with {name}={before}, not {now}: leave {name}= out, or begin a new run"


def _typed(plain: dict[str, Any], options: dict[str, Any], trainer: dict[str, Any]) -> RunConfig:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    text = {key: value for key, value in plain.items() if key in _TEXT}
    plain = {key: value for key, value in plain.items() if key not in ("options", "trainer")}
    for key in ("strategy", "model", "task", "device", "dtype", "on_error"):
        if key in text and not text[key]:
            raise ConfigError(f"{key}= is empty: write {key}=NAME")
    typed: Any = OmegaConf.structured(RunConfig)
    for key in plain.keys() - text.keys():
        try:
            typed = OmegaConf.merge(typed, {key: plain[key]})
        except OmegaConfBaseException as error:
            raise ConfigError(f"{key}={plain[key]}: {str(error).splitlines()[0]}") from None
    chosen = {key: typed[key] for key in plain.keys() - text.keys()}
    return RunConfig(**text, **chosen, options=options, trainer=trainer)


def _instead_of(word: str) -> str:
    near = difflib.get_close_matches(word.lstrip("-"), _KEYS, n=1)
    return f"{near[0]}=VALUE" if near else f"strategy={word}" if word.replace("+", "").isidentifier() else "KEY=VALUE"


def _nearest(name: str, keys: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.5)
    return f": did you mean {near[0]}=?" if near else "."


@dataclass(frozen=True)
class ExportConfig:
    """Everything `tokenprune data export TASK` can be told."""

    task: str
    out: str = _key("", "folder to write, which must not hold anything yet; needed")
    n: int = _key(100, "how many samples")
    frames: int = _key(16, "frames per video")
    size: int = _key(96, "height and width in pixels, an even number from 96 on")
    seed: int = _key(0, "of the samples")

    def __post_init__(self) -> None:
        if not self.out:
            raise ConfigError("nowhere to write to: add out=DIR, as in out=shapes")
        for name in ("n", "frames", "size"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name}={value} is no number of anything: write at least 1")
        if self.size % 2:
            raise ConfigError(f"size={self.size} is odd, which H.264 cannot store: write size={self.size + 1}")


def parse_export(words: Sequence[str]) -> ExportConfig:
    """The export that `TASK KEY=VALUE ...` describes. Raises ConfigError."""
    keys = [key.name for key in dataclasses.fields(ExportConfig) if key.name != "task"]
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and "task" not in given and not word.startswith("-"):
            given["task"] = word
        elif not equals or not name:
            raise ConfigError(f"{word!r} is no KEY=VALUE: write one of {', '.join(f'{key}=' for key in keys)}")
        elif name not in keys:
            raise ConfigError(f"unknown key {name!r}{_nearest(name, keys)} Keys: {', '.join(keys)}")
        else:
            try:
                given[name] = value if name == "out" else int(value)
            except ValueError:
                raise ConfigError(f"{word!r} is no whole number: write {name}=NUMBER") from None
    if "task" not in given:
        raise ConfigError("nothing to export: write a task first, as in `tokenprune data export tinyvqa out=shapes`")
    return ExportConfig(**given)
