"""The stages that a strategy can have: interfaces, and nothing else.

Stages are types and `isinstance` on them is the only dispatch. A strategy is a frozen dataclass:
its fields are its hyper-parameters and its schema. It returns rows and never touches a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.lookup import STRATEGIES
from tokenprune.tokens import Extent, Probe, SequenceView, Signals, Survivors, VisualTokens

if TYPE_CHECKING:
    from tokenprune.strategy.pipeline import Pipeline

State = TypeVar("State")
Settled = Literal["contiguous", "original"]
Positions = Literal["contiguous", "original", "model"]

REGISTERED: dict[str, type[Strategy]] = STRATEGIES.defined


class Strategy(ABC):
    """Base of all strategies.

    Subclassing with a name registers: `class Mine(PrefillStage, name="mine")`.
    """

    name: ClassVar[str]
    # whether what a frame keeps depends on other frames, also under a budget
    mixes_frames: ClassVar[bool] = False
    # whether a kept token may stand for several
    merges: ClassVar[bool] = False

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
        from tokenprune.strategy.pipeline import Pipeline  # it is made of these classes

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


class Placed(Strategy):
    """Base of the stages that take rows out of the prompt.

    `positions` are those of the rows that live, and of the text behind them: `"contiguous"` counts
    anew, `"original"` keeps the gaps, `"model"` is what the family prefers (contiguous for LLaVA,
    original with M-RoPE). None: `"model"` at the LLM's input, `"original"` inside it. A class with
    stages in both places says it for the input; inside its rows keep what they have.
    """

    positions: ClassVar[Positions | None] = None


class VisionStage(Placed):
    """Runs once per video, between projector and LLM."""

    # whether an allocator may hand it another budget than its own
    reallocates: ClassVar[bool] = True

    @abstractmethod
    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        """How many tokens each frame keeps if no allocator moves them."""

    @abstractmethod
    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        """Exactly `budget[f]` tokens of frame f, frames in order; no new slot, and none twice."""


class TowerStage(Strategy):
    """Base of the stages inside the vision tower: its layers compute fewer rows.

    In front of the projector every patch has a row again, that of whatever stands for it, so that
    pooling, positions and all later stages see what they always see. A pipeline has one at most; it
    is a `TowerMerger` or a `TowerReuser`.
    """


class TowerMerger(TowerStage):
    """Merges rows of each frame in every tower layer, between attention and feed-forward network.

    A merged row is the mean of its members, weighted with how many patches each stands for.

    Args:
        proportional: a row counts in attention as often as it has patches (`log(size)` on the
            logits of its key)
    """

    proportional: bool = True

    @abstractmethod
    def removed(self, layers: int, rows: int, first: int) -> tuple[int, ...]:
        """How many rows of a frame each of `layers` merges away; a frame begins with `rows`.

        The `first` of them (CLS: 0 or 1) are no patches.
        """

    @abstractmethod
    def group(self, keys: Float[Tensor, "i n k"], remove: int, first: int) -> Int[Tensor, "i n"]:
        """The group of every row, 0 to n - remove - 1, of which each frame has all.

        `keys` are this layer's, mean over heads, in float32. The `first` rows stay first, and
        alone.
        """


class TowerReuser(TowerStage):
    """Lets patches skip all tower layers and take what the same patch of another frame became.

    The patches that are left attend to all of their frame: keys and values of a patch that skips
    are those of the patch whose result it takes, in the same layer. So a frame that skips whole has
    exactly the other's features; of a frame that skips in part, only what its patches would have
    seen of the change is missing.
    """

    @abstractmethod
    def taken(self, patches: Float[Tensor, "f p v"]) -> Bool[Tensor, "f p"]:
        """Marks the patches that take what the same patch of the frame before has.

        `patches` are all values of each patch of one video, as its tower gets them. The first frame
        takes nothing.
        """


class Condenser(Placed):
    """Runs in place of a vision stage where the number of tokens is the result, not the budget."""

    @abstractmethod
    def condense(self, tokens: VisualTokens) -> VisualTokens:
        """At most the tokens that came: frames in order, no new slot, and none twice."""


class TowerReader(Strategy):
    """Mix-in interface of vision stages and condensers that read more than features.

    The vision tower's keys, saliency and output, or the text behind the video.
    """

    @abstractmethod
    def signals(self) -> Signals:
        """What to record; nothing is computed that no strategy asks for."""

    def recorded(
        self,
        tokens: VisualTokens,
        signal: Literal["keys", "saliency", "tower", "summary", "text"],
    ) -> Float[Tensor, "n *k"]:
        """The tokens' `signal`; StrategyError where it was not recorded."""
        value = getattr(tokens, signal)
        if value is None:
            raise StrategyError(
                f"{self.name} reads the vision tower, record it: VisualTokens(..., {signal}=...)"
            )
        return value


class PrefillStage(Placed):
    """Runs once per prompt and layer of `layers`, which dropped rows do not reach.

    A stage with one layer has a field `layer`; one with several defines `layers`.
    """

    layer: int
    reallocates: ClassVar[bool] = True
    # whether the layers below lose the dropped rows, too, once the prompt is through
    forgets: ClassVar[bool] = False

    def layers(self, depth: int) -> tuple[int, ...]:
        """The LLM layers (0-based, of `depth`) before which it may drop rows, in order."""
        return (self.layer,)

    @abstractmethod
    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        """How many tokens each frame keeps before `view.layer` if no allocator moves them."""

    @abstractmethod
    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"] | Survivors:
        """The surviving rows, as a mask or in full: all text, exactly `budget[f]` of frame f."""


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


HOSTS = (VisionStage, PrefillStage)  # stages that keep a budget
REDUCERS = (*HOSTS, Condenser)  # stages that decide how many tokens live
