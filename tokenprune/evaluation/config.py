"""What a run is: words like `strategy=dycoke+dytok frames=8 dycoke.merge=0.5`, checked against one
dataclass.

And what an export is, likewise.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import (
    AND_OPTIONS,
    check_counts,
    check_fraction,
    check_sampling,
    key,
    known,
    meant,
    one_of,
    pair,
    read,
    structured,
)


@dataclass(frozen=True)
class RunConfig:
    """Everything `tokenprune run` can be told, and the schema of it."""

    strategy: str = key("", "methods joined by +, as in dycoke+dytok; see `tokenprune list`")
    plugin: str | None = key(None, "a Python file of yours that defines strategies")
    model: str = key("tiny", "tiny (embedded), a folder, or a hub id")
    task: str = key(
        "tinyvqa",
        "tinyvqa (embedded), files:PATH of an annotations file, or lmms:NAME of lmms-eval",
    )
    include_path: str | None = key(None, "a folder of task YAML files of yours, for task=lmms:NAME")
    video: str | None = key(None, "a video file to ask about, instead of a task")
    question: str | None = key(None, "what to ask about the video")
    keep: float | None = key(
        None, "visual tokens left, mean over LLM layers; the strategy's own options by default"
    )
    frames: int | None = key(
        None, "frames per video, spread evenly; 32 of video= and lmms:NAME, else 16"
    )
    sampling: str = key(
        "index",
        "frames of a file evenly by number (index, the papers' rule) or by the clock (time)",
    )
    samples: int | None = key(None, "how many samples the task makes; its own number by default")
    limit: int | None = key(None, "evaluate at most this many samples")
    max_new_tokens: int | None = key(
        None, "longest answer, in tokens; a benchmark's own, else 1024 of lmms:NAME and 48"
    )
    batch_size: int = key(1, "samples per forward pass")
    seed: int = key(0, "of the task's samples and of random draws")
    device: str = key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = key(
        "auto",
        "auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the checkpoint's",
    )
    assistant: str | None = key(
        None, "a smaller model of the same family that weighs frames for dytok"
    )
    out: str | None = key(None, "folder for the results; runs/<time>-<strategy> by default")
    resume: str | None = key(
        None, "folder of a run that did not finish: goes on with it, needs nothing else"
    )
    on_error: str = key("record", "record a video that cannot be read and go on, or stop")
    reuse: bool = key(
        True, "take the full model's answers from a run beside this one, if nothing has changed"
    )
    workers: int | None = key(
        None, "processes that decode videos; one per spare core, at most 4, for files"
    )
    trainer: dict[str, Any] = key(
        dict, "Lightning's: trainer.devices=2 trainer.strategy=ddp trainer.num_nodes=2 ..."
    )
    # of strategies, as {"dycoke": {"merge": 0.5}}
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counts(self, "frames", "samples", "limit", "max_new_tokens", "batch_size")
        if self.keep is not None:
            check_fraction("keep", self.keep, "0.25")
        if self.workers is not None and self.workers < 0:
            raise ConfigError(
                f"workers={self.workers}: write 0 to decode in the process that evaluates, or more"
            )
        check_sampling(self.sampling)
        if self.on_error not in ("record", "stop"):
            raise ConfigError(f"on_error={self.on_error} is unknown: write record or stop")
        for name in self.trainer:
            if name not in TRAINER:
                raise ConfigError(
                    f"unknown key 'trainer.{name}'{meant(name, TRAINER)} Keys: {', '.join(TRAINER)}"
                )
        if self.include_path is not None and not self.task.startswith("lmms:"):
            raise ConfigError(
                "include_path= holds tasks of lmms-eval: write task=lmms:NAME too, or leave it out"
            )
        if self.video is not None and not self.question:
            raise ConfigError(
                f'video={self.video} needs a question about it: add question="What happens?"'
            )
        if self.question is not None and self.video is None:
            raise ConfigError("question= needs a video to ask about: add video=FILE")

    @property
    def frames_asked(self) -> int:
        """`frames`, or what it is by default."""
        return self.frames or (FILE_FRAMES if self.video is not None else default_frames(self.task))


LMMS = "lmms:"  # before the name of a task of lmms-eval
FILE_FRAMES = 32
LONGEST = 48  # new tokens, where neither the task nor the user says


def default_frames(task: str) -> int:
    """Frames per video of a task where the user names none; of lmms-eval's, as in `lmms-eval
    --model tokenprune`.
    """
    return 32 if task.startswith(LMMS) else 16


TRAINER = ("accelerator", "devices", "num_nodes", "precision", "strategy")  # of Lightning's Trainer
# what a resumed run may do otherwise; of a plug-in its code is compared, wherever it lies
_FREE = ("out", "resume", "workers", "trainer", "on_error", "device", "plugin")

# taken as typed: a question may hold anything that YAML would read as something else
_TEXT = tuple(key.name for key in dataclasses.fields(RunConfig) if str(key.type).startswith("str"))
_KEYS = tuple(
    key.name for key in dataclasses.fields(RunConfig) if key.name not in ("options", "trainer")
)
_TASK_ONLY = ("task", "samples", "limit", "batch_size", "include_path")


def parse(words: Sequence[str]) -> RunConfig:
    """The run that `KEY=VALUE` words describe; keys with a dot are options of strategies.

    Raises ConfigError.
    """
    plain: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for word in words:
        name, text = pair(word, _KEYS)
        if "." in name:
            options[name] = read(word)
            continue
        known(name, _KEYS, AND_OPTIONS)
        plain[name] = read(word) if name not in _TEXT else None if text == "null" else text
    if (given := [key for key in _TASK_ONLY if key in plain]) and plain.get("video") is not None:
        raise ConfigError(
            f"{given[0]}= goes with a task, and video= asks about one file: leave one of them out"
        )
    trainer = {
        name.removeprefix("trainer."): options.pop(name)
        for name in list(options)
        if _is_trainer(name)
    }
    return (
        _resumed(plain, options, trainer)
        if plain.get("resume")
        else _typed(plain, options, trainer)
    )


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
        raise ConfigError(
            f"resume={plain['resume']} holds no run: name the folder that one was writing"
        ) from None
    except (OmegaConfBaseException, YAMLError, TypeError, KeyError, UnicodeDecodeError):
        raise ConfigError(
            f"config.yaml in resume={plain['resume']} is not that of a run of this version"
        ) from None
    # gone, or of another folder
    if before.plugin is not None and not Path(before.plugin).expanduser().is_file():
        copy = folder / "plugins" / Path(before.plugin).name
        saved["plugin"] = str(copy) if copy.is_file() else before.plugin
    now = _typed(
        {**saved, "options": None, "trainer": None} | plain, {**before.options, **options}, trainer
    )
    for name in (*_KEYS, "options"):
        if name not in _FREE and getattr(now, name) != getattr(before, name):
            raise ConfigError(
                _changed(name, getattr(before, name), getattr(now, name), str(plain["resume"]))
            )
    return dataclasses.replace(now, trainer={**before.trainer, **trainer})


def _changed(name: str, before: Any, now: Any, folder: str) -> str:
    if name == "options":
        name = next(key for key in now if before.get(key) != now[key])
        before, now = before.get(name, "its default"), now[name]
    return (
        f"resume={folder} was begun with {name}={before}, not {now}: leave {name}= out, or "
        "begin a new run"
    )


def _typed(plain: dict[str, Any], options: dict[str, Any], trainer: dict[str, Any]) -> RunConfig:
    text = {key: value for key, value in plain.items() if key in _TEXT}
    plain = {key: value for key, value in plain.items() if key not in ("options", "trainer")}
    for name in ("strategy", "model", "task", "device", "dtype", "on_error", "sampling"):
        if name in text and not text[name]:
            raise ConfigError(f"{name}= is empty: write {name}=NAME")
    chosen = {key: value for key, value in plain.items() if key not in text}
    typed = structured(RunConfig, chosen)
    return RunConfig(
        **text, **{key: typed[key] for key in chosen}, options=options, trainer=trainer
    )


@dataclass(frozen=True)
class ExportConfig:
    """Everything `tokenprune data export TASK` can be told."""

    task: str
    out: str = key("", "folder to write, which must not hold anything yet; needed")
    n: int = key(100, "how many samples")
    frames: int = key(16, "frames per video")
    size: int = key(96, "height and width in pixels, an even number from 96 on")
    seed: int = key(0, "of the samples")

    def __post_init__(self) -> None:
        if not self.out:
            raise ConfigError("nowhere to write to: add out=DIR, as in out=shapes")
        check_counts(self, "n", "frames", "size")
        if self.size % 2:
            raise ConfigError(
                f"size={self.size} is odd, which H.264 cannot store: write size={self.size + 1}"
            )


def parse_export(words: Sequence[str]) -> ExportConfig:
    """The export that `TASK KEY=VALUE ...` describes. Raises ConfigError."""
    keys = [key.name for key in dataclasses.fields(ExportConfig) if key.name != "task"]
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and "task" not in given and not word.startswith("-"):
            given["task"] = word
        elif not equals or not name:
            raise one_of(word, keys)
        else:
            known(name, keys)
            try:
                given[name] = value if name == "out" else int(value)
            except ValueError:
                raise ConfigError(f"{word!r} is no whole number: write {name}=NUMBER") from None
    if "task" not in given:
        raise ConfigError(
            "nothing to export: write a task first, as in `tokenprune data export tinyvqa "
            "out=shapes`"
        )
    return ExportConfig(**given)
