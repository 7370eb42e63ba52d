"""What a run has recorded of one sample, drawn over its frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokenprune import checkpoints
from tokenprune.errors import ConfigError, TokenpruneError
from tokenprune.evaluation.config import SECTION, RunConfig
from tokenprune.evaluation.plan import task_of
from tokenprune.loading.processor import Processor
from tokenprune.options import from_mapping, nearest
from tokenprune.pictures.drawing import DPI, check_file
from tokenprune.pictures.figures import Drawn
from tokenprune.pictures.footage import footage_of
from tokenprune.pictures.kept import Kept, over_footage
from tokenprune.pictures.subject import found
from tokenprune.pixels import Kind
from tokenprune.plugins import load_plugins
from tokenprune.results import begun
from tokenprune.results.answer import RANDOM, STRATEGY, subject_of
from tokenprune.results.files import PLUGINS
from tokenprune.results.read import Run, read
from tokenprune.runtime.slots import unpack
from tokenprune.tasks import Sample, Task

FIGURES = "figures"  # in a run's folder


class System(NamedTuple):
    """One system of a run, and the words by which it can be chosen."""

    run: Run
    role: str
    label: str

    @property
    def names(self) -> set[str]:
        spec = self.run.summary.setting.spec
        own = {self.label, self.run.folder.name}
        return own | {self.role} | ({spec} if self.role == subject_of(self.run.roles) else set())


@dataclass(frozen=True)
class Asked:
    """What is to be drawn, as `tokenprune draw` takes it."""

    folder: str
    sample: str
    strategy: Sequence[str] = ()
    out: str | None = None
    dpi: int = DPI


def draw_run(asked: Asked) -> Drawn:
    """Draws what systems of a run kept of one sample, frame by frame, without a model.

    Of a run that is the control above the strategy, unless others are named; of a sweep or study
    cells are named. The frames are made again from what the run was given. Raises TokenpruneError
    where they are not the run's any more, or anything is not there.
    """
    if asked.out is not None:
        check_file(asked.out, asked.dpi)
    systems = chosen(_systems(asked.folder), asked.strategy, asked.folder)
    run = systems[0].run
    place = found(asked.sample, [record["id"] for record in run.records])
    identity = run.records[place]["id"]
    shown = [_kept(system, identity) for system in systems]
    config = given_to(run.folder)
    sample = sample_of(run, config, run.records[place]["index"])
    frames = [video[0] for video in _tokens(systems[0], identity)["videos"]]
    footage = footage_of(sample, frames, kind_of(config))
    drawing = over_footage(shown, footage, f"{identity}: {sample.question}")
    out = asked.out or str(run.folder / FIGURES / f"{_file_name(identity)}.png")
    check_file(out, asked.dpi)
    where = config.video or config.task
    caption = (
        f"Visual tokens that reached the last layer of {config.model}, sample {identity} of "
        f'{where}, with their number under each frame: "{sample.question}".'
    )
    note = checkpoints.note(config.model, config.assistant)
    file = drawing.save(Path(out).expanduser(), asked.dpi)
    return Drawn((file,), drawing.alt, f"{caption} {note}" if note else caption)


def _systems(folder: str) -> list[System]:
    there = read(folder)
    runs: list[Run] = [there] if isinstance(there, Run) else [*there]
    if not runs:
        raise ConfigError(f"{folder} has no finished cells: name the folder of a run")
    return [
        System(run, role, run.summary.systems[role].label) for run in runs for role in run.roles
    ]


def chosen(systems: Sequence[System], names: Sequence[str], folder: str) -> list[System]:
    """Those that are named, in that order. ConfigError lists what there is."""
    one = len({system.run.folder for system in systems}) == 1
    if not names and one:
        subject = subject_of([system.role for system in systems])
        wanted = [RANDOM, subject] if subject == STRATEGY else [subject]
        return [system for role in wanted for system in systems if system.role == role]
    labels = [system.label if one else system.run.folder.name for system in systems]
    known = [*dict.fromkeys(labels)]
    if not names:
        raise ConfigError(
            f"{folder} holds {len(known)} cells: write strategy=A,B with some of {', '.join(known)}"
        )
    picked: list[System] = []
    for name in names:
        fitting = [system for system in systems if name in system.names]
        if len(fitting) != 1:
            near = nearest(name, known)
            what = f"names {len(fitting)} systems" if fitting else "names none of the systems"
            hint = f", did you mean {near}?" if near and not fitting else ":"
            raise ConfigError(f"strategy={name} {what} in {folder}{hint} {', '.join(known)}")
        picked += fitting
    return picked


def _record(system: System, identity: str) -> dict[str, Any]:
    for record in system.run.records:
        if record["id"] == identity:
            return record
    raise ConfigError(f"{system.run.folder} has no sample {identity}")


def _tokens(system: System, identity: str) -> dict[str, Any]:
    """What was measured of a system's answer. ConfigError where there is none."""
    made = _record(system, identity)[system.role]
    if made["error"] is not None or not made["tokens"]:
        raise ConfigError(f"{system.label} has no answer to {identity}: {made['error']}")
    return made["tokens"]


def _kept(system: System, identity: str) -> Kept:
    tokens = _tokens(system, identity)
    grids = [(high, wide) for frames, high, wide in tokens["videos"] for _ in range(frames)]
    return Kept(
        system.label,
        unpack(tokens),
        grids,
        _record(system, identity)[system.role]["prediction"],
        tokens.get("frame_weights"),
        merged=bool(tokens.get("merged")),
        average=tokens.get("layer_average_ratio"),
    )


def given_to(folder: Path) -> RunConfig:
    """What a finished run was given, as its `config.yaml` says; ConfigError where it does not."""
    content = begun.whole(folder) or {}
    try:
        return RunConfig(**from_mapping(RunConfig, content[SECTION], str(folder)))
    except (ConfigError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"config.yaml in {folder} is not that of a run of this version: its frames cannot be "
            "made again"
        ) from None


def sample_of(run: Run, config: RunConfig, index: int) -> Sample:
    """The sample as the run was asked about it. ConfigError where its task has changed since."""
    return samples_of(run, config)[index]


def samples_of(run: Run, config: RunConfig) -> Task:
    """The task that the run was asked about. ConfigError where it has changed since."""
    load_plugins(_plugins(run.folder, config.plugin))
    task = task_of(config)
    then = (begun.read(run.folder) or {}).get("samples", {})
    now = dict(task.fingerprint())
    if changed := [name for name in {**then, **now} if then.get(name) != now.get(name)]:
        raise ConfigError(
            f"the samples of {config.video or config.task} are others than when {run.folder} was "
            f"made ({', '.join(sorted(changed))}): put them back, or run it again"
        )
    return task


def _plugins(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """A plug-in that has gone is read from the run's own copy."""
    for name in names:
        copy = folder / PLUGINS / Path(name).name
        gone = not Path(name).expanduser().is_file() and copy.is_file()
        yield str(copy) if gone else name


def kind_of(config: RunConfig) -> Kind | None:
    """How the run's model took pictures, where it is on this machine: nothing is fetched for it."""
    local = config.model in checkpoints.names() or Path(config.model).expanduser().is_dir()
    if not local:
        return None
    try:
        return Processor.load(config.model, config).pixels
    except TokenpruneError:  # the frames are drawn whole
        return None


def _file_name(identity: str) -> str:
    return re.sub(r"[^\w.-]+", "_", identity)[:120] or "sample"
