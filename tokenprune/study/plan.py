"""The cells of a study: every method, with and without an allocator, at every budget, and the full
model once.

A budget is a whole number of tokens per frame, the same for all methods, since most of them keep
whole tokens of each frame: a nominal 15 % of 36 tokens is 5 of them, 13.9 %.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune import ops, registry
from tokenprune.errors import StrategyError
from tokenprune.evaluation.extent import extent_of
from tokenprune.loading.checkpoint import configuration
from tokenprune.registry import resolve
from tokenprune.strategy import Extent, Pipeline, PrefillStage, VisionStage
from tokenprune.study.config import SELF, Method, StudyConfig, label_of

VANILLA = "vanilla"


@dataclass(frozen=True)
class Cell:
    """One method at one budget; without a pipeline the method cannot reach it, and `reason` says
    why.
    """

    method: str  # its label; VANILLA is the full model
    guide: str | None  # SELF or the assistant that guides the allocator; None: no allocator
    allocator: str | None
    tokens: int  # per frame
    extent: Extent
    pipeline: Pipeline | None
    reason: str = ""
    assistant: str | None = None  # that guides an allocator of the method itself

    @property
    def label(self) -> str:
        """What tables call it: `dycoke`, `dycoke+dytok (self)`."""
        return (
            self.method if self.guide is None else f"{self.method}+{self.allocator} ({self.guide})"
        )

    @property
    def guided_by(self) -> str | None:
        """The model that guides whatever allocator there is; SELF or None: no other model."""
        return self.guide or self.assistant

    @property
    def ratio(self) -> float:
        """The budget as a fraction of visual tokens."""
        return self.tokens / self.extent.cells

    @property
    def slug(self) -> str:
        """The name of its file."""
        words = re.sub(r"[^\w.+-]+", "-", self.label).strip("-")
        return f"{words}-{self.tokens:0{len(str(self.extent.cells))}d}of{self.extent.cells}"


def budgets(retentions: Sequence[float], cells: int) -> list[int]:
    """Retentions as tokens per frame, at least one, the largest first, each once."""
    return sorted({max(1, ops.count(cells, ratio)) for ratio in retentions}, reverse=True)


def lay_out(config: StudyConfig) -> list[Cell]:
    """All cells of the study, the full model first.

    Raises StrategyError, ConfigError, LoadingError.
    """
    assert config.frames is not None  # settled
    extent = extent_of(config.model, config.frames)
    for name in {*config.assistants, *(method.assistant for method in config.strategies)} - {
        SELF,
        None,
    }:
        configuration(str(name))
    cells = [Cell(VANILLA, None, None, extent.cells, extent, registry.build("none"))]
    for tokens in budgets(config.retentions, extent.cells):
        if tokens == extent.cells:
            continue  # nothing to compress: the full model
        for guide in (None, *(config.assistants if config.allocator else ())):
            for method in config.strategies:
                if guide is None or _takes_an_allocator(pipeline_of(method, config.seed)):
                    cells.append(_cell(config, method, guide, tokens, extent))
    return cells


def _cell(
    config: StudyConfig, method: Method, guide: str | None, tokens: int, extent: Extent
) -> Cell:
    allocator = None if guide is None else config.allocator
    pipeline, reason = pipeline_of(method, config.seed, allocator).check(extent.depth), ""
    try:
        pipeline = pipeline.retaining(tokens / extent.cells, extent)
    except StrategyError as error:
        pipeline, reason = None, str(error)
    return Cell(
        label_of(method), guide, allocator, tokens, extent, pipeline, reason, method.assistant
    )


def pipeline_of(method: Method, seed: int, allocator: str | None = None) -> Pipeline:
    """The method, with `allocator` added to it, as its options have it: no retention is set yet."""
    spec = method.spec if allocator is None else f"{method.spec}+{allocator}"
    return resolve(spec, method.options, seed=seed, assistant=method.assistant)


def _takes_an_allocator(pipeline: Pipeline) -> bool:
    return len(hosts(pipeline)) == 1 and pipeline.allocator is None


def hosts(pipeline: Pipeline) -> list[VisionStage | PrefillStage]:
    """Its strategies that have a budget of their own."""
    return [
        strategy
        for strategy in pipeline.strategies
        if isinstance(strategy, (VisionStage, PrefillStage))
    ]
