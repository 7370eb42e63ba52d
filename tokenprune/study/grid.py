"""The grid of a sweep as a study: its methods, its cells, and what contradicts itself there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tokenprune import ops
from tokenprune.errors import ConfigError, StrategyError
from tokenprune.registry import resolve
from tokenprune.strategy import Adjustable, Extent, Pipeline
from tokenprune.study.config import CellConfig, Method, StudyConfig
from tokenprune.study.plan import Cell, plan_cells
from tokenprune.study.results import CONTROL
from tokenprune.study.sweep import SweepConfig, Variant, variants


def plan_grid(config: SweepConfig, extent: Extent) -> tuple[StudyConfig, list[Cell]]:
    """The sweep as a study, and all its cells: the full model first, the control at every budget.

    Raises ConfigError, LoadingError.
    """
    _check_budgets(config.keep, extent.cells)
    try:
        study = _study(config)
        cells = plan_cells(study, extent)
    except StrategyError as error:
        raise ConfigError(str(error)) from None
    _refuse_equals(cells)
    return study, cells


def _study(config: SweepConfig) -> StudyConfig:
    """Its strategies, the control among them, at its budgets."""
    found = {variant.label: variant for variant in variants(config)}
    found.setdefault(CONTROL, Variant(CONTROL, {}))
    methods = []
    for label, (spec, options) in found.items():
        pipeline = resolve(spec, options, seed=config.seed)
        _check_budgeted(spec, pipeline)
        guide = config.assistant if pipeline.allocator is not None else None
        methods.append(Method(spec, label, options, guide))
    if config.assistant is not None and not any(method.assistant for method in methods):
        raise ConfigError(
            "assistant= guides an allocator, and no strategy has one: add +dytok to one, or leave "
            "it out"
        )
    shared = {key.name: getattr(config, key.name) for key in dataclasses.fields(CellConfig)}
    return StudyConfig(
        strategies=methods, retentions=config.keep, allocator=None, assistants=[], **shared
    )


def _check_budgeted(spec: str, pipeline: Pipeline) -> None:
    """ConfigError where `keep=` does not mean exactly one strategy."""
    if not pipeline.strategies:
        raise ConfigError(
            f"{spec} is the full model, which every sweep has: leave it out of strategy="
        )
    budgeted = pipeline.hosts
    if len(budgeted) != 1 or not isinstance(budgeted[0], Adjustable):
        which = " and ".join(host.name for host in budgeted) or "none"
        raise ConfigError(
            f"keep= sets the budget of one strategy, and {spec} has {which}: write strategies "
            "with one each"
        )


def _check_budgets(keep: Sequence[float], cells: int) -> None:
    """ConfigError where two are as many whole tokens per frame, or all are everything."""
    requested: dict[int, float] = {}
    for ratio in keep:
        tokens = max(1, ops.count(cells, ratio))
        if tokens in requested:
            raise ConfigError(
                f"keep={requested[tokens]:g} and keep={ratio:g} are both {tokens} of the {cells} "
                "tokens of a frame: leave one of them out"
            )
        requested[tokens] = ratio
    if set(requested) == {cells}:
        raise ConfigError(
            f"keep={keep[0]:g} is the full model, which every sweep has: add smaller ones"
        )


def _refuse_equals(cells: Sequence[Cell]) -> None:
    """ConfigError for two names of the same cell.

    As with an option that is its default, or a random control of one's own.
    """
    for place, cell in enumerate(cells):
        for other in cells[:place]:
            what, before = (cell.pipeline, cell.tokens), (other.pipeline, other.tokens)
            if cell.slug == other.slug or (cell.pipeline is not None and what == before):
                raise ConfigError(
                    f"{other.method} and {cell.method} are the same: leave one of them out"
                )
