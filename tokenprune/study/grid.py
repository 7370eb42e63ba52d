"""The grid of a sweep as a study: its methods, its cells, and what contradicts itself among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tokenprune import ops
from tokenprune.errors import ConfigError, StrategyError
from tokenprune.evaluation.extent import extent_of
from tokenprune.evaluation.retention import refuse_overridden
from tokenprune.strategy import Adjustable
from tokenprune.study.config import CellConfig, Method, StudyConfig
from tokenprune.study.plan import Cell, hosts, lay_out, pipeline_of
from tokenprune.study.results import CONTROL
from tokenprune.study.sweep import SweepConfig, Variant, variants


@dataclasses.dataclass(frozen=True)
class Grid:
    """A sweep that can run."""

    study: StudyConfig
    cells: list[Cell]  # the full model first
    variants: dict[str, Variant]  # by the name of their method
    asked: dict[int, float]  # keep as it was asked for, by tokens per frame


def lay_grid(config: SweepConfig) -> Grid:
    """All cells of the sweep, the full model and the control among them.

    Raises ConfigError, LoadingError.
    """
    found = {variant.label: variant for variant in variants(config)}
    found.setdefault(CONTROL, Variant(CONTROL, {}))
    try:
        study = _study(config, found)
        asked = _budgets(config)
        cells = lay_out(study)
    except StrategyError as error:
        raise ConfigError(str(error)) from None
    _refuse_what_keep_sets(study, cells)
    _refuse_equals(cells)
    return Grid(study, cells, found, asked)


def _study(config: SweepConfig, found: dict[str, Variant]) -> StudyConfig:
    methods, guided = [], False
    for label, variant in found.items():
        pipeline = pipeline_of(Method(variant.spec, label, variant.options), config.seed)
        if not pipeline.strategies:
            raise ConfigError(
                f"{variant.spec} is the full model, which every sweep has: leave it out of "
                "strategy="
            )
        budgeted = hosts(pipeline)
        if len(budgeted) != 1 or not isinstance(budgeted[0], Adjustable):
            which = " and ".join(host.name for host in budgeted) or "none"
            raise ConfigError(
                f"keep= sets the budget of one strategy, and {variant.spec} has {which}: write "
                "strategies with one each"
            )
        takes = pipeline.allocator is not None
        guided |= takes
        methods.append(
            Method(variant.spec, label, variant.options, config.assistant if takes else None)
        )
    if config.assistant is not None and not guided:
        raise ConfigError(
            "assistant= guides an allocator, and no strategy has one: add +dytok to one, or leave "
            "it out"
        )
    shared = {key.name: getattr(config, key.name) for key in dataclasses.fields(CellConfig)}
    return StudyConfig(
        strategies=methods, retentions=config.keep, allocator=None, assistants=[], **shared
    )


def _budgets(config: SweepConfig) -> dict[int, float]:
    """Each keep by its whole tokens per frame.

    ConfigError where two are the same, or all are everything.
    """
    asked: dict[int, float] = {}
    assert config.frames is not None  # settled
    cells = extent_of(config.model, config.frames).cells
    for ratio in config.keep:
        tokens = max(1, ops.count(cells, ratio))
        if tokens in asked:
            raise ConfigError(
                f"keep={asked[tokens]:g} and keep={ratio:g} are both {tokens} of the {cells} "
                "tokens of a frame: "
                "leave one of them out"
            )
        asked[tokens] = ratio
    if set(asked) == {cells}:
        raise ConfigError(
            f"keep={config.keep[0]:g} is the full model, which every sweep has: add smaller ones"
        )
    return asked


def _refuse_what_keep_sets(study: StudyConfig, cells: Sequence[Cell]) -> None:
    """An option that the budget overrides would be a column that lies."""
    methods = {method.label: method for method in study.strategies}
    for cell in cells[1:]:
        if cell.pipeline is None:
            continue
        before, options = (
            pipeline_of(methods[cell.method], study.seed),
            methods[cell.method].options,
        )
        refuse_overridden(before, cell.pipeline, options, f" of {cell.method}")


def _refuse_equals(cells: Sequence[Cell]) -> None:
    """Two names for the same cell: an option that is its default, or a random control of one's own."""
    for place, cell in enumerate(cells):
        for other in cells[:place]:
            same = cell.pipeline is not None and (cell.pipeline, cell.tokens) == (
                other.pipeline,
                other.tokens,
            )
            if same or cell.slug == other.slug:
                raise ConfigError(
                    f"{other.method} and {cell.method} are the same: leave one of them out"
                )
