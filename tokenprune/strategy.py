"""The contract: four stage interfaces, and the pipeline that composes strategies with `+`.

Stages are types and `isinstance` on them is the only dispatch. A strategy is a frozen dataclass:
its fields are its hyper-parameters and its schema. It returns rows and never touches a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import ops
from tokenprune.errors import NameTakenError, StrategyError
from tokenprune.guards import contract
from tokenprune.tokens import Probe, SequenceView, Signals, VisualTokens

State = TypeVar("State")
S = TypeVar("S")

REGISTERED: dict[str, type[Strategy]] = {}


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
        known = REGISTERED.get(name)
        # the same definition run again (a notebook cell, a reloaded module) replaces itself
        if known is not None and (known.__module__, known.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise NameTakenError(name, f"{known.__module__}.{known.__qualname__}")
        if not name.isidentifier() or name == "none":
            raise StrategyError(
                f"{name!r} is not a strategy name: write letters, digits and _ (and not 'none')"
            )
        cls.name = name
        REGISTERED[name] = cls

    def __add__(self, other: Strategy | Pipeline) -> Pipeline:
        return Pipeline((self,)) + other


class Allocator(Strategy):
    """Where tokens should go, never how many: redistributes its host's total over frames."""

    cap: int | None = None  # most tokens of one frame; None: as many as it has
    follow: Literal["paper", "released"] = "paper"  # which apportioning rule, see `ops.apportion`

    @abstractmethod
    def weigh(self, probe: Probe) -> Float[Tensor, "f"]:
        """One non-negative weight per frame; only their proportions matter."""


class VisionStage(Strategy):
    """Runs once per video, between projector and LLM."""

    @abstractmethod
    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        """How many tokens each frame keeps if nobody reallocates."""

    @abstractmethod
    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        """Exactly `budget[f]` tokens of frame f, frames in order, slots unique within a frame and
        from the input.
        """


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
    """Runs once per prompt, before LLM layer `layer`; dropped rows reach neither that layer nor any
    later one.
    """

    layer: int

    @abstractmethod
    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        """How many tokens each frame keeps if nobody reallocates."""

    @abstractmethod
    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        """Marks the surviving rows: all text, and exactly `budget[f]` of frame f."""


class DecodeStage(Strategy, Generic[State]):
    """Runs for every generated token, from LLM layer `layer` up; hides cached rows for this step
    only.
    """

    layer: int
    offload: bool = False  # hidden rows lie in host memory

    @abstractmethod
    def start(self) -> State:
        """The state before the first generated token of one sample."""

    @abstractmethod
    def attend(self, view: SequenceView, state: State) -> tuple[Bool[Tensor, "s"], State]:
        """Marks the rows this step attends to (all text always), and the state for the next step."""


class Extent(NamedTuple):
    """An uncompressed prompt: its frames, the visual tokens of each, and the LLM layers they go
    through.
    """

    frames: int
    cells: int
    depth: int


class Adjustable(Strategy):
    """Mix-in interface of strategies with a budget that can be set to a requested retention."""

    @abstractmethod
    def retaining(self, ratio: float, extent: Extent) -> Strategy:
        """Itself with options that let `ratio` of the visual tokens live, averaged over layers; or
        StrategyError.
        """


@dataclass(frozen=True)
class Pipeline:
    """Strategies composed with `+`: a free monoid with the empty pipeline (`none`) as identity.

    Stages run in a fixed order (allocate, vision, prefill by layer, decode); within a stage the
    written order holds.
    """

    strategies: tuple[Strategy, ...] = ()

    def __add__(self, other: Strategy | Pipeline) -> Pipeline:
        return Pipeline(
            self.strategies + (other.strategies if isinstance(other, Pipeline) else (other,))
        )

    def __str__(self) -> str:
        return "+".join(strategy.name for strategy in self.strategies) or "none"

    def of(self, stage: type[S]) -> tuple[S, ...]:
        """The strategies that implement `stage`, in running order."""
        found = tuple(strategy for strategy in self.strategies if isinstance(strategy, stage))
        return (
            tuple(sorted(found, key=lambda s: getattr(s, "layer", 0)))
            if stage is PrefillStage
            else found
        )

    @property
    def allocator(self) -> Allocator | None:
        return next(iter(self.of(Allocator)), None)

    @property
    def signals(self) -> Signals:
        """What the vision tower has to record for all stages together."""
        wanted = [reader.signals() for reader in self.of(TowerReader)]
        return Signals(
            saliency=next((w.saliency for w in wanted if w.saliency), None),
            keys=next((w.keys for w in wanted if w.keys), None),
        )

    def check(self, depth: int | None = None) -> Pipeline:
        """Raises StrategyError for a combination that cannot work; `depth` (LLM layers) also checks
        layer numbers.
        """
        names = [strategy.name for strategy in self.strategies]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise StrategyError(f"{twice[0]!r} is named twice in {self}: name each strategy once")
        if len(self.of(DecodeStage)) > 1:
            hiding = " and ".join(stage.name for stage in self.of(DecodeStage))
            raise StrategyError(f"{hiding} both hide cached rows at decode: keep one of them")
        self._check_signals()
        self._check_allocator()
        for stage in (*self.of(PrefillStage), *self.of(DecodeStage)):
            if stage.layer < 1 or (depth is not None and stage.layer >= depth):
                last = "the last LLM layer" if depth is None else depth - 1
                raise StrategyError(
                    f"{stage.name}.layer={stage.layer} prunes nothing: it reads the attention of "
                    "the layer below, "
                    f"write a layer from 1 to {last}"
                )
        return self

    def retaining(self, ratio: float, extent: Extent) -> Pipeline:
        """This pipeline with its one budget set to `ratio`; StrategyError where it has none,
        several, or cannot.
        """
        if not 0.0 < ratio <= 1.0:
            raise StrategyError(f"a retention is a fraction above 0 and up to 1, not {ratio:g}")
        hosts = [s for s in self.strategies if isinstance(s, (VisionStage, PrefillStage))]
        if len(hosts) != 1 or not isinstance(hosts[0], Adjustable):
            which = " and ".join(host.name for host in hosts) or "nobody"
            raise StrategyError(
                f"{self} takes no retention: one Adjustable strategy may have a budget, here "
                f"{which}"
            )
        adjusted = contract.ask(hosts[0], "retaining", ratio, extent)
        if type(adjusted) is not type(hosts[0]):
            did = f"returned {type(adjusted).__name__}"
            raise contract.breach(
                hosts[0], "retaining", did, "it returns itself with other options"
            )
        return Pipeline(
            tuple(adjusted if strategy is hosts[0] else strategy for strategy in self.strategies)
        )

    def _check_signals(self) -> None:
        readers = [(reader, contract.signals(reader)) for reader in self.of(TowerReader)]
        for kind in ("saliency", "keys"):
            wanted = {getattr(signals, kind) for _, signals in readers} - {None}
            if len(wanted) > 1:
                names = " and ".join(
                    reader.name for reader, signals in readers if getattr(signals, kind)
                )
                raise StrategyError(
                    f"{names} read different {kind} ({', '.join(sorted(wanted))}): keep one of them"
                )

    def _check_allocator(self) -> None:
        allocators = self.of(Allocator)
        if len(allocators) > 1:
            raise StrategyError(
                f"{' and '.join(a.name for a in allocators)} both allocate the budget: keep one of "
                "them"
            )
        hosts = [*self.of(VisionStage), *self.of(PrefillStage)]
        if not allocators or len(hosts) == 1:
            return
        guide = allocators[0].name
        if hosts:
            kept = " or ".join(f"{host.name}+{guide}" for host in hosts)
            raise StrategyError(
                f"{guide} redistributes one budget, but {', '.join(host.name for host in hosts)} "
                "each have one: "
                f"write {kept}"
            )
        candidates = sorted(
            n for n, c in REGISTERED.items() if issubclass(c, (VisionStage, PrefillStage))
        )
        raise StrategyError(
            f"{guide} only redistributes another strategy's budget: write one of "
            f"{', '.join(f'{name}+{guide}' for name in candidates)}"
        )

    def budget(
        self,
        stage: VisionStage | PrefillStage,
        seen: VisualTokens | SequenceView,
        weights: Float[Tensor, "f"] | None,
        sample: int | None = None,
    ) -> Int[Tensor, "f"]:
        """The tokens each frame keeps in `stage`: its quota, or the same total apportioned by
        `weights`.
        """
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
