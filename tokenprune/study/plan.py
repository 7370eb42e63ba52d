"""The cells of a study: every method, with and without an allocator, at every budget.

The full model is one cell more. A budget is a whole number of tokens per frame, the same for all
methods, since most of them keep whole tokens of each frame: a nominal 15 % of 36 tokens is 5 of
them, 13.9 %.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tokenprune import ops, registry
from tokenprune.errors import StrategyError
from tokenprune.evaluation.retention import refuse_overridden
from tokenprune.loading.checkpoint import configuration
from tokenprune.registry import resolve
from tokenprune.strategy import Extent, Pipeline
from tokenprune.study.config import SELF, Method, StudyConfig, label_of

VANILLA = "vanilla"


@dataclass(frozen=True)
class Cell:
    """One method at one budget."""

    method: str  # its label; VANILLA is the full model
    spec: str  # strategies joined by +, the allocator among them
    tokens: int  # per frame
    requested: float  # the retention that `tokens` come from
    extent: Extent
    pipeline: Pipeline | None  # None: the method cannot reach the budget
    reason: str = ""  # why
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method, as they were given
    allocator: str | None = None  # that was added to the method
    guide: str | None = None  # of that allocator: SELF or an assistant
    assistant: str | None = None  # that guides an allocator of the method itself

    @property
    def label(self) -> str:
        """What tables call it: `dycoke`, `dycoke+dytok (self)`."""
        if self.guide is None:
            return self.method
        return f"{self.method}+{self.allocator} ({self.guide})"

    @property
    def guided_by(self) -> str | None:
        """The model that guides whatever allocator there is; SELF or None: not another model."""
        return self.guide or self.assistant

    @property
    def budget(self) -> float:
        """`tokens` as a fraction of visual tokens."""
        return self.tokens / self.extent.cells

    @property
    def slug(self) -> str:
        """The name of its folder."""
        words = re.sub(r"[^\w.+-]+", "-", self.label).strip("-")
        digits = len(str(self.extent.cells))
        return f"{words}-{self.tokens:0{digits}d}of{self.extent.cells}"


@dataclass(frozen=True)
class _Variant:
    """A method with or without the study's allocator, before its budget is set."""

    method: Method
    spec: str
    pipeline: Pipeline
    allocator: str | None = None
    guide: str | None = None


def plan_cells(config: StudyConfig, extent: Extent) -> list[Cell]:
    """All cells of the study, the full model first.

    Raises StrategyError, ConfigError, LoadingError.
    """
    _check_assistants(config)
    variants = _variants(config, extent.depth)
    cells = [Cell(VANILLA, "none", extent.cells, 1.0, extent, registry.build("none"))]
    for tokens, requested in budgets(config.retentions, extent.cells).items():
        if tokens < extent.cells:  # else there is nothing to compress
            cells += [_cell(variant, tokens, requested, extent) for variant in variants]
    return cells


def budgets(retentions: Sequence[float], cells: int) -> dict[int, float]:
    """Retentions by their whole tokens per frame, at least one, the largest first.

    Of several that are as many tokens, the largest.
    """
    tokens = {max(1, ops.count(cells, ratio)): ratio for ratio in sorted(retentions)}
    return dict(sorted(tokens.items(), reverse=True))


def _check_assistants(config: StudyConfig) -> None:
    """LoadingError, UnsupportedModelError for a model that cannot guide."""
    named = {*config.assistants, *(method.assistant for method in config.strategies)}
    for name in named - {SELF, None}:
        configuration(str(name), config)


def _variants(config: StudyConfig, depth: int) -> list[_Variant]:
    """Every method alone, then with the allocator and each of its guides."""
    found: list[_Variant] = []
    guided: list[_Variant] = []
    for method in config.strategies:
        pipeline = _resolved(method.spec, method, config.seed).check(depth)
        found.append(_Variant(method, method.spec, pipeline))
    if config.allocator is None or not config.assistants:
        return found
    for one in found:
        if not one.pipeline.takes_allocator:
            continue
        spec = f"{one.spec}+{config.allocator}"
        pipeline = _resolved(spec, one.method, config.seed).check(depth)
        guided.append(_Variant(one.method, spec, pipeline, config.allocator))
    for guide in config.assistants:
        found += [replace(one, guide=guide) for one in guided]
    return found


def _resolved(spec: str, method: Method, seed: int) -> Pipeline:
    return resolve(spec, method.options, seed=seed, assistant=method.assistant)


def _cell(variant: _Variant, tokens: int, requested: float, extent: Extent) -> Cell:
    """The variant at a budget, or why it cannot have it.

    ConfigError for an option that the budget overrides: a column of options would lie.
    """
    method, label = variant.method, label_of(variant.method)
    pipeline, reason = None, ""
    try:
        pipeline = variant.pipeline.retaining(tokens / extent.cells, extent)
    except StrategyError as error:
        reason = str(error)
    if pipeline is not None:
        refuse_overridden(variant.pipeline, pipeline, method.options, f" of {label}")
    return Cell(
        label,
        variant.spec,
        tokens,
        requested,
        extent,
        pipeline,
        reason,
        options=method.options,
        allocator=variant.allocator,
        guide=variant.guide,
        assistant=method.assistant,
    )
