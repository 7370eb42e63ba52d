"""The cells of an analogue: each of its methods at each point of its axes, on a study's terms."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune import ops
from tokenprune.errors import ConfigError, StrategyError
from tokenprune.options import as_typed
from tokenprune.registry import resolve, resolved_fields
from tokenprune.reproduce.files import path
from tokenprune.reproduce.parts import Analogue, Method
from tokenprune.strategy import Extent, Pipeline
from tokenprune.study.config import StudyConfig
from tokenprune.study.plan import VANILLA, Cell

FRAMES, KEEP = "frames", "keep"  # axes that are no option of a strategy


@dataclass(frozen=True)
class Arm:
    """One method at one point of the axes.

    Args:
        label: as it is shown
        method: what its curve is called: the label without the point
        spec, options, assistant: as in `tokenprune run`
        frames: of each video
        keep: the budget that is asked for; None: its options are the budget
        at: where it stands on the axes that vary
        stands_for: the printed row, by name
    """

    label: str
    method: str
    spec: str
    options: Mapping[str, Any]
    assistant: str | None
    frames: int
    keep: float | None = None
    at: Mapping[str, Any] = field(default_factory=dict)
    stands_for: str = ""


@dataclass(frozen=True)
class ArmCell(Cell):
    """A cell whose `tokens` are those of the whole video; one that any table finds again."""

    @property
    def budget(self) -> float:
        return self.tokens / (self.extent.frames * self.extent.cells)

    @property
    def slug(self) -> str:
        """By what runs, not by what a table calls it."""
        assert self.pipeline is not None
        made = [resolved_fields(self.pipeline), self.guided_by]
        digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
        return f"{self.spec}-{digest[:12]}"


def arms(analogue: Analogue) -> list[Arm]:
    """Every method at every point of the axes that concern it, in the file's order.

    Its `plugins` have been loaded.

    ConfigError for an axis that concerns none, or two arms of one name.
    """
    for name in analogue.axes:
        if name != FRAMES and not any(_owns(method, name) for method in analogue.methods):
            raise ConfigError(f"analogue: no method has {name}, leave it out of axes:")
    found = [arm for method in analogue.methods for arm in _of(analogue, method)]
    labels = [arm.label for arm in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"analogue: two methods are called {twice[0]!r}, give one a label:")
    return found


def plugins(id_: str, analogue: Analogue) -> list[str]:
    """The strategy files beside the table that its methods need."""
    names = dict.fromkeys(method.plugin for method in analogue.methods if method.plugin)
    return [str(path(id_).with_name(name)) for name in names]


def _owns(method: Method, option: str) -> bool:
    return option.partition(".")[0] in method.strategy.split("+")


def _of(analogue: Analogue, method: Method) -> Iterator[Arm]:
    axes = {
        name: values
        for name, values in analogue.axes.items()
        if name == FRAMES or _owns(method, name)
    }
    if analogue.keep:
        axes[KEEP] = list(analogue.keep)
    called = method.label or method.strategy
    for point in itertools.product(*axes.values()):
        at = dict(zip(axes, point, strict=True))
        shown = {name: value for name, value in at.items() if len(axes[name]) > 1}
        yield Arm(
            label=", ".join([called, *map(_words, shown.items())]),
            method=called,
            spec=method.strategy,
            options={
                **method.options,
                **{name: value for name, value in at.items() if name not in (FRAMES, KEEP)},
            },
            assistant=method.assistant or _guide(analogue, method),
            frames=at.get(FRAMES, analogue.frames),
            keep=at.get(KEEP),
            at=shown,
            stands_for=method.stands_for,
        )


def _guide(analogue: Analogue, method: Method) -> str | None:
    """The analogue's guide, of whatever has an allocator."""
    if analogue.assistant is None:
        return None
    return analogue.assistant if resolve(method.strategy, seed=0).allocator else None


def _words(point: tuple[str, Any]) -> str:
    """`merge=0.7`, `8 frames`, `keep 25 %`."""
    name, value = point
    if name == FRAMES:
        return f"{value} frames"
    if name == KEEP:
        return f"keep {100 * value:g} %"
    return f"{name.rpartition('.')[2]}={as_typed(value)}"


def cell_of(arm: Arm, extent: Extent, seed: int) -> ArmCell:
    """ConfigError where it cannot be composed, or cannot have its budget."""
    try:
        pipeline = resolve(arm.spec, arm.options, seed=seed, assistant=arm.assistant)
        pipeline = pipeline.check(extent.depth)
        if arm.keep is not None:
            tokens = max(1, ops.count(extent.cells, arm.keep))
            pipeline = pipeline.retaining(tokens / extent.cells, extent)
    except StrategyError as error:
        raise ConfigError(f"analogue: {arm.label}: {error}") from None
    return _cell(arm.label, arm.spec, pipeline, extent, arm.options, arm.assistant)


def full_model(extent: Extent) -> ArmCell:
    return at_budget(_cell(VANILLA, "none", Pipeline(), extent), 1.0)


def control(name: str, budget: ArmCell, seed: int) -> ArmCell:
    """`random` or `uniform` at the measured budget of a cell."""
    pipeline = resolve(name, {f"{name}.keep": budget.budget}, seed=seed)
    cell = _cell(name, name, pipeline, budget.extent)
    return dataclasses.replace(cell, tokens=budget.tokens)


def at_budget(cell: ArmCell, retention: float) -> ArmCell:
    """With the tokens that it was measured to keep, mean over layers."""
    whole = cell.extent.frames * cell.extent.cells
    return dataclasses.replace(cell, tokens=max(1, ops.count(whole, retention)))


def _cell(
    label: str,
    spec: str,
    pipeline: Pipeline,
    extent: Extent,
    options: Mapping[str, Any] | None = None,
    assistant: str | None = None,
) -> ArmCell:
    """With no budget yet: what it keeps is measured."""
    return ArmCell(
        label, spec, 0, 0.0, extent, pipeline, options=options or {}, assistant=assistant
    )


def by_frames(found: Sequence[Arm]) -> dict[int, list[Arm]]:
    """Videos of another length are other samples, with a full model and controls of their own."""
    together: dict[int, list[Arm]] = {}
    for arm in found:
        together.setdefault(arm.frames, []).append(arm)
    return together


def store(out: Path, study: StudyConfig) -> Path:
    """The folder of finished cells that all tables with the same samples share."""
    words = (study.model, study.task, f"{study.frames}f", f"{study.samples}s", f"{study.seed}")
    return out / "analogues" / re.sub(r"[^\w.+-]+", "-", "-".join(words))
