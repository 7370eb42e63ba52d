"""What a run is: words like `strategy=dycoke+dytok frames=8 dycoke.merge=0.5`, checked against one
dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.evaluation import logs
from tokenprune.loading.variant import Prompted
from tokenprune.options import (
    Size,
    check_counts,
    check_fraction,
    check_sampling,
    check_short,
    from_mapping,
    given,
    key,
    load_file,
    meant,
)

SECTION = "run"  # the part of config.yaml that holds a run's keys
LMMS = "lmms:"  # before the name of a task of lmms-eval
FILE_FRAMES = 32
LONGEST = 48  # new tokens, where neither the task nor the user says
# of Lightning's Trainer
TRAINER = ("accelerator", "devices", "logger", "num_nodes", "precision", "strategy")
# what a resumed run may do otherwise; of a plug-in its code is compared, wherever it lies
_FREE = (
    "out",
    "resume",
    "report",
    "workers",
    "trainer",
    "on_error",
    "device",
    "device_map",
    "plugin",
)
_TASK_ONLY = ("task", "samples", "limit", "batch_size", "include_path")


@dataclass(frozen=True)
class RunConfig(Prompted):
    """Everything `tokenprune run` can be told, and the schema of it."""

    strategy: str = key("", "methods joined by +, as in dycoke+dytok; see `tokenprune list`")
    plugin: list[str] = key(
        list,
        "a Python file of yours: strategies, tasks, model families; may be repeated",
        repeated=True,
    )
    model: str = key("tiny", "tiny (embedded), a folder, or a hub id")
    task: str = key(
        "tinyvqa",
        "tinyvqa (embedded), files:PATH of an annotations file, or lmms:NAME of lmms-eval",
    )
    include_path: str | None = key(None, "a folder of task YAML files of yours, for task=lmms:NAME")
    judge: str | None = key(
        None,
        "the model that judges answers of lmms:NAME, where that asks one: gpt-4o-mini, or task for "
        "the one its code names",
    )
    video: str | None = key(None, "a video file to ask about, instead of a task")
    question: str | None = key(None, "what to ask about the video")
    keep: float | None = key(
        None,
        "visual tokens left, mean over LLM layers; the strategy's own options by default",
        example="0.25",
    )
    frames: int | None = key(
        None, "frames per video, spread evenly; 32 of video= and lmms:NAME, else 16"
    )
    sampling: str = key(
        "index",
        "frames of a file evenly by number (index, the papers' rule) or by the clock (time)",
    )
    short: str = key(
        "once",
        "a video with fewer frames than asked for shows each once, or repeat some (the papers')",
    )
    samples: int | None = key(None, "how many samples the task makes; its own number by default")
    limit: int | None = key(None, "evaluate at most this many samples")
    max_new_tokens: int | None = key(
        None, "longest answer, in tokens; a benchmark's own, else 1024 of lmms:NAME and 48"
    )
    batch_size: Size = key(
        1, "samples per forward pass; auto: as many as fit into memory", example="8, or auto"
    )
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
    images: bool = key(
        False, "compress images beside videos, too, where the family can; else they are kept whole"
    )
    on_error: str = key("record", "record a video that cannot be read and go on, or stop")
    reuse: bool = key(
        True, "take the full model's answers from a run beside this one, if nothing has changed"
    )
    report: bool = key(
        True, "write report.html, a page to look at: answers, kept tokens over the frames, figures"
    )
    workers: int | None = key(
        None, "processes that decode videos; one per spare core, at most 4, for files"
    )
    trainer: dict[str, Any] = key(
        dict,
        "Lightning's: trainer.devices=2 trainer.strategy=ddp trainer.num_nodes=2 ..., and "
        "trainer.logger=csv, tensorboard, wandb or mlflow",
    )
    # of strategies, as {"dycoke": {"merge": 0.5}}
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "frames", "samples", "limit", "max_new_tokens", "batch_size")
        if self.keep is not None:
            check_fraction("keep", self.keep, "0.25")
        if self.workers is not None and self.workers < 0:
            raise ConfigError(
                f"workers={self.workers}: write 0 to decode in the process that evaluates, or more"
            )
        check_sampling(self.sampling)
        check_short(self.short)
        if self.on_error not in ("record", "stop"):
            raise ConfigError(f"on_error={self.on_error} is unknown: write record or stop")
        for name in self.trainer:
            if name not in TRAINER:
                keys = [f"trainer.{key}" for key in TRAINER]
                near = meant(f"trainer.{name}", keys)
                raise ConfigError(f"unknown key 'trainer.{name}'{near} Keys: {', '.join(keys)}")
        logs.check(self.trainer)
        self._check_source()

    def _check_source(self) -> None:
        """ConfigError where it is not clear what is asked about which videos."""
        if self.include_path is not None and not self.task.startswith(LMMS):
            raise ConfigError(
                "include_path= holds tasks of lmms-eval: write task=lmms:NAME too, or leave it out"
            )
        if self.judge is not None and not self.task.startswith(LMMS):
            raise ConfigError(
                "judge= is for tasks of lmms-eval: write task=lmms:NAME too, or leave it out"
            )
        if self.question is not None and self.video is None:
            raise ConfigError("question= needs a video to ask about: add video=FILE")
        if self.video is None:
            return
        if not self.question:
            raise ConfigError(
                f'video={self.video} needs a question about it: add question="What happens?"'
            )
        defaults = {one.name: one.default for one in dataclasses.fields(self)}
        for name in _TASK_ONLY:
            if getattr(self, name) != defaults[name]:
                raise ConfigError(
                    f"{name}= goes with a task, and video= asks about one file: leave one of them "
                    "out"
                )

    @property
    def frames_requested(self) -> int:
        """`frames`, or what it is by default."""
        return self.frames or (FILE_FRAMES if self.video is not None else default_frames(self.task))


def default_frames(task: str) -> int:
    """Frames per video where the user names none; of lmms-eval's tasks, as lmms-eval has it."""
    return 32 if task.startswith(LMMS) else 16


def parse(words: Sequence[str]) -> RunConfig:
    """The run that `KEY=VALUE` words describe; keys with a dot are options of strategies.

    Raises ConfigError.
    """
    values = given(RunConfig, words, section=SECTION)
    if values.get("resume") is None:
        return RunConfig(**values)
    if any(word.startswith("config=") for word in words):
        raise ConfigError("resume= goes on with the run's own config.yaml: leave config= out")
    return _resumed(values)


def _resumed(values: Mapping[str, Any]) -> RunConfig:
    """The configuration in the folder `resume`; what is said again has to be the same."""
    folder = Path(values["resume"]).expanduser()
    saved = _saved(folder, values["resume"])
    before = RunConfig(**saved)
    options = {**before.options, **values.get("options", {})}
    trainer = {**before.trainer, **values.get("trainer", {})}
    now = RunConfig(**{**saved, **values, "options": options, "trainer": trainer})
    for one in dataclasses.fields(RunConfig):
        then, requested = getattr(before, one.name), getattr(now, one.name)
        if one.name not in _FREE and then != requested:
            raise ConfigError(_changed(one.name, then, requested, values["resume"]))
    return now


def _saved(folder: Path, resume: str) -> dict[str, Any]:
    """What the run in `folder` was begun with; of a plug-in that has gone, the run's copy."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"resume={resume} holds no run: name the folder that one was writing")
    try:
        saved = from_mapping(RunConfig, load_file(str(file))[SECTION], str(file))
        RunConfig(**saved)
    except (ConfigError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"config.yaml in resume={resume} is not that of a run of this version"
        ) from None
    saved["plugin"] = [_there(folder, name) for name in saved.get("plugin", [])]
    return saved


def _there(folder: Path, plugin: str) -> str:
    copy = folder / "plugins" / Path(plugin).name
    gone = not Path(plugin).expanduser().is_file()
    return str(copy) if gone and copy.is_file() else plugin


def _changed(name: str, before: Any, now: Any, folder: str) -> str:
    if name == "options":
        name = next(key for key in now if before.get(key) != now[key])
        before, now = before.get(name, "its default"), now[name]
    return (
        f"resume={folder} was begun with {name}={before}, not {now}: leave {name}= out, or "
        "begin a new run"
    )
