"""Strategies composed with `+`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted, ops
from tokenprune.errors import StrategyError
from tokenprune.guards import contract
from tokenprune.strategy.composition import check, movable, named
from tokenprune.strategy.stages import (
    REDUCERS,
    Adjustable,
    Allocator,
    Condenser,
    DecodeStage,
    PrefillStage,
    Settled,
    Strategy,
    TowerReader,
    TowerStage,
    VisionStage,
)
from tokenprune.tokens import Extent, SequenceView, Signals, VisualTokens

S = TypeVar("S")


@dataclass(frozen=True)
class Pipeline:
    """Strategies composed with `+`: a free monoid with the empty pipeline (`none`) as identity.

    Stages run in a fixed order (tower, allocate, vision, prefill by layer, decode), and within a
    stage as written.
    """

    strategies: tuple[Strategy, ...] = ()

    def __add__(self, other: Strategy | Pipeline) -> Pipeline:
        added = other.strategies if isinstance(other, Pipeline) else (other,)
        return Pipeline(self.strategies + added)

    def __str__(self) -> str:
        return "+".join(strategy.name for strategy in self.strategies) or "none"

    def of(self, stage: type[S]) -> tuple[S, ...]:
        """The strategies that implement `stage`, in running order."""
        found = tuple(strategy for strategy in self.strategies if isinstance(strategy, stage))
        if stage is PrefillStage:
            return tuple(sorted(found, key=lambda strategy: getattr(strategy, "layer", 0)))
        return found

    @property
    def hosts(self) -> tuple[VisionStage | PrefillStage | Condenser, ...]:
        """The strategies that decide how many tokens live, as written."""
        return tuple(strategy for strategy in self.strategies if isinstance(strategy, REDUCERS))

    @property
    def takes_allocator(self) -> bool:
        """Whether it has one budget, which an allocator that is not there yet may redistribute."""
        hosts = self.hosts
        return len(hosts) == 1 and movable(hosts[0]) and self.allocator is None

    @property
    def at_input(self) -> tuple[VisionStage | Condenser, ...]:
        """The stages between projector and LLM, as written."""
        kinds = (VisionStage, Condenser)
        return tuple(strategy for strategy in self.strategies if isinstance(strategy, kinds))

    @property
    def tower_stage(self) -> TowerStage | None:
        """What works inside the vision tower."""
        return next(iter(self.of(TowerStage)), None)

    @property
    def allocator(self) -> Allocator | None:
        return next(iter(self.of(Allocator)), None)

    @property
    def decode_stage(self) -> DecodeStage[Any] | None:
        return next(iter(self.of(DecodeStage)), None)

    @property
    def signals(self) -> Signals:
        """What the vision tower has to record for all stages together."""
        return contract.agreed_signals(self.of(TowerReader))

    @property
    def reads_question(self) -> bool:
        """Whether what its stages leave of a video at the LLM's input depends on the question."""
        return self.allocator is not None or self.signals.text is not None

    def input_positions(self, preferred: Settled) -> Settled:
        """How the rows behind tokens that are gone at the LLM's input are counted.

        `preferred` by the family; one stage that needs the original positions decides.
        """
        said = {stage.positions or "model" for stage in self.at_input}
        if "original" in said or said == {"model"}:
            return "original" if "original" in said else preferred
        return "contiguous" if said else preferred

    def counts_anew(self, stage: PrefillStage, preferred: Settled) -> bool:
        """Whether rows behind those that `stage` drops inside the LLM are counted from 0."""
        if stage in self.at_input:
            return False
        said = stage.positions or "original"
        return (preferred if said == "model" else said) == "contiguous"

    def check(self, depth: int | None = None) -> Pipeline:
        """Itself, or StrategyError for what cannot work; `depth` LLM layers also check layers."""
        check(self, depth)
        return self

    def retaining(self, ratio: float, extent: Extent) -> Pipeline:
        """Itself with its one budget set to `ratio`; StrategyError where that cannot be."""
        if not 0.0 < ratio <= 1.0:
            raise StrategyError(f"a retention is a fraction above 0 and up to 1, not {ratio:g}")
        host, *others = self.hosts or (None,)
        if others or not isinstance(host, Adjustable):
            raise StrategyError(
                f"{self} takes no retention: one Adjustable strategy may have a budget, here "
                f"{named(self.hosts) or 'none has'}"
            )
        adjusted = contract.ask(host, "retaining", ratio, extent)
        if type(adjusted) is not type(host):
            did = f"returned {type(adjusted).__name__}"
            raise contract.breach(host, "retaining", did, "it returns itself with other options")
        return Pipeline(tuple(adjusted if s is host else s for s in self.strategies))

    def budget(
        self,
        stage: VisionStage | PrefillStage,
        seen: VisualTokens | SequenceView,
        weights: Float[Tensor, "f"] | None,
        sample: int | None = None,
    ) -> Int[Tensor, "f"]:
        """What each frame keeps in `stage`: its quota, or the same total split by `weights`."""
        quota = contract.quota(stage, seen, sample)
        allocator = self.allocator
        if weights is None or allocator is None:
            return quota
        if weights.shape != quota.shape:
            raise StrategyError(
                f"{allocator.name}.weigh gives {len(weights)} weights for {len(quota)} frames: "
                "give one per frame"
            )
        cap = seen.available
        if allocator.cap is not None:
            cap = hosted.each(partial(min, allocator.cap), cap)
        try:
            return ops.apportion(weights, hosted.total(quota), cap, allocator.follow)
        except ValueError as error:
            raise StrategyError(
                f"{allocator.name} cannot redistribute the budget of {stage.name}: {error}"
            ) from None
