"""The contract: four stage interfaces, and the pipeline that composes strategies with `+`.

Stages are types and `isinstance` on them is the only dispatch. A strategy is a frozen dataclass:
its fields are its hyper-parameters and its schema. It returns rows and never touches a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import ops
from tokenprune.errors import StrategyError
from tokenprune.guards import contract
from tokenprune.lookup import STRATEGIES
from tokenprune.tokens import Extent, Probe, SequenceView, Signals, VisualTokens

State = TypeVar("State")
S = TypeVar("S")

REGISTERED: dict[str, type[Strategy]] = STRATEGIES.defined


class Strategy(ABC):
    """Base of all strategies.

    Subclassing with a name registers: `class Mine(PrefillStage, name="mine")`.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name is None:  # not registered: called by its class
            cls.name = vars(cls).get("name", cls.__name__)
            return
        if not name.isidentifier() or name == "none":
            raise StrategyError(
                f"{name!r} is not a strategy name: write letters, digits and _ (and not 'none')"
            )
        STRATEGIES.add(name, cls)
        cls.name = name

    def __add__(self, other: Strategy | Pipeline) -> Pipeline:
        return Pipeline((self,)) + other


class Allocator(Strategy):
    """Where tokens should go, never how many: redistributes its host's total over frames.

    Args:
        cap: most tokens of one frame; None: as many as it has
        follow: the apportioning rule, see `ops.apportion`
    """

    cap: int | None = None
    follow: Literal["paper", "released"] = "paper"

    @abstractmethod
    def weigh(self, probe: Probe) -> Float[Tensor, "f"]:
        """One non-negative weight per frame; only their proportions matter."""


class VisionStage(Strategy):
    """Runs once per video, between projector and LLM."""

    @abstractmethod
    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        """How many tokens each frame keeps if no allocator moves them."""

    @abstractmethod
    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        """Exactly `budget[f]` tokens of frame f, frames in order; no new slot, and none twice."""


class TowerReader(Strategy):
    """Mix-in interface of vision stages that need `keys` or `saliency` from the vision tower."""

    @abstractmethod
    def signals(self) -> Signals:
        """What to record; nothing is computed that no strategy asks for."""

    def recorded(
        self, tokens: VisualTokens, signal: Literal["keys", "saliency"]
    ) -> Float[Tensor, "n *k"]:
        """The tokens' `signal`; StrategyError where it was not recorded."""
        value = getattr(tokens, signal)
        if value is None:
            raise StrategyError(
                f"{self.name} reads the vision tower, record it: VisualTokens(..., {signal}=...)"
            )
        return value


class PrefillStage(Strategy):
    """Runs once per prompt, before LLM layer `layer`, which dropped rows do not reach."""

    layer: int

    @abstractmethod
    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        """How many tokens each frame keeps if no allocator moves them."""

    @abstractmethod
    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        """Marks the surviving rows: all text, and exactly `budget[f]` of frame f."""


class DecodeStage(Strategy, Generic[State]):
    """Runs for every generated token, from LLM layer `layer` up; hides cached rows from one step.

    Args:
        layer: first LLM layer (0-based) with hidden rows
        offload: hidden rows lie in host memory
    """

    layer: int
    offload: bool = False

    @abstractmethod
    def start(self) -> State:
        """The state before the first generated token of one sample."""

    @abstractmethod
    def attend(self, view: SequenceView, state: State) -> tuple[Bool[Tensor, "s"], State]:
        """Marks the rows that this step attends to (all text always); and the next step's state."""


class Adjustable(Strategy):
    """Mix-in interface of strategies with a budget that can be set to a requested retention."""

    @abstractmethod
    def retaining(self, ratio: float, extent: Extent) -> Strategy:
        """Itself with options that let `ratio` of the visual tokens live, averaged over layers.

        StrategyError where no options do.
        """


HOSTS = (VisionStage, PrefillStage)  # stages with a budget of their own


@dataclass(frozen=True)
class Pipeline:
    """Strategies composed with `+`: a free monoid with the empty pipeline (`none`) as identity.

    Stages run in a fixed order (allocate, vision, prefill by layer, decode), and within a stage as
    written.
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
    def hosts(self) -> tuple[VisionStage | PrefillStage, ...]:
        """The strategies with a budget of their own, as written."""
        return tuple(strategy for strategy in self.strategies if isinstance(strategy, HOSTS))

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

    def check(self, depth: int | None = None) -> Pipeline:
        """Itself, or StrategyError for what cannot work; `depth` LLM layers also check layers."""
        names = [strategy.name for strategy in self.strategies]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise StrategyError(f"{twice[0]!r} is named twice in {self}: name each strategy once")
        if len(hiding := self.of(DecodeStage)) > 1:
            which = _named(hiding)
            raise StrategyError(f"{which} both hide cached rows at decode: keep one of them")
        contract.agreed_signals(self.of(TowerReader))
        self._check_allocator()
        for stage in (*self.of(PrefillStage), *self.of(DecodeStage)):
            if stage.layer < 1 or (depth is not None and stage.layer >= depth):
                last = "the last LLM layer" if depth is None else depth - 1
                raise StrategyError(
                    f"{stage.name}.layer={stage.layer} prunes nothing: it reads the attention of "
                    f"the layer below, write a layer from 1 to {last}"
                )
        return self

    def _check_allocator(self) -> None:
        allocators = self.of(Allocator)
        if len(allocators) > 1:
            raise StrategyError(f"{_named(allocators)} both allocate the budget: keep one of them")
        budgets = (*self.of(VisionStage), *self.of(PrefillStage))
        if not allocators or len(budgets) == 1:
            return
        guide = allocators[0].name
        if budgets:
            raise StrategyError(
                f"{guide} redistributes one budget, but {_named(budgets, ', ')} each have one: "
                f"write {' or '.join(f'{host.name}+{guide}' for host in budgets)}"
            )
        known = STRATEGIES.items()
        hosts = sorted(name for name, kind in known if issubclass(kind, HOSTS))
        raise StrategyError(
            f"{guide} only redistributes another strategy's budget: write one of "
            f"{', '.join(f'{host}+{guide}' for host in hosts)}"
        )

    def retaining(self, ratio: float, extent: Extent) -> Pipeline:
        """Itself with its one budget set to `ratio`; StrategyError where that cannot be."""
        if not 0.0 < ratio <= 1.0:
            raise StrategyError(f"a retention is a fraction above 0 and up to 1, not {ratio:g}")
        host, *others = self.hosts or (None,)
        if others or not isinstance(host, Adjustable):
            raise StrategyError(
                f"{self} takes no retention: one Adjustable strategy may have a budget, here "
                f"{_named(self.hosts) or 'none has'}"
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
        quota, available = contract.quota(stage, seen, sample), seen.counts
        allocator = self.allocator
        if weights is None or allocator is None:
            return quota
        if weights.shape != quota.shape:
            raise StrategyError(
                f"{allocator.name}.weigh gives {len(weights)} weights for {len(quota)} frames: "
                "give one per frame"
            )
        cap = available if allocator.cap is None else available.clamp(max=allocator.cap)
        try:
            return ops.apportion(weights.to(quota.device), int(quota.sum()), cap, allocator.follow)
        except ValueError as error:
            raise StrategyError(
                f"{allocator.name} cannot redistribute the budget of {stage.name}: {error}"
            ) from None


def _named(strategies: Sequence[Strategy], separator: str = " and ") -> str:
    return separator.join(strategy.name for strategy in strategies)
