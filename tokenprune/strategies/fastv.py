"""FastV drops, at one LLM layer, the visual tokens that the end of the prompt attends to least."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import ops
from tokenprune.strategy import Adjustable, Extent, PrefillStage, StrategyError
from tokenprune.tokens import SequenceView


@dataclass(frozen=True)
class FastV(PrefillStage, Adjustable, name="fastv"):
    """An Image is Worth 1/2 Tokens After Layer 2 (Chen et al., ECCV 2024), https://arxiv.org/abs/2403.06764

    Before layer `layer`, keeps the visual rows with the most attention from the last prompt token
    in layer `layer - 1` (fp32, mean over query heads). All frames compete in one pool; text always
    stays; kept rows keep their original positions; the cache of later layers holds kept rows only
    and is never re-ranked at decode. With an allocator the total stays FastV's own and the
    competition is per frame.

    Decisions: the paper speaks of attention "averaged over all other tokens", every release scores
    with the last row only, and so do we. The count rounds half to even, as the released Hugging
    Face file does. Layer 0 (a random subset in the paper) and layers past the last are refused:
    they would drop nothing that was scored.

    Differs from the authors' code: scores are fp32 instead of the model's dtype, ranking is per
    sample instead of sample 0's for the whole batch, padding is honoured in every layer, and no
    attention map is materialised.

    Args:
        layer: first LLM layer (0-based, from 1) that runs without the dropped tokens (K)
        drop: fraction of visual tokens removed, 0 to 1 (the paper's R)
    """

    layer: int = 2
    drop: float = 0.5

    def __post_init__(self) -> None:
        ops.fraction("fastv.drop", self.drop)

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        number = ops.count(view.total, 1.0 - self.drop)
        return view.quota_of(view.attention, number)

    def retaining(self, ratio: float, extent: Extent) -> FastV:
        whole = self.layer / extent.depth  # of the layers, those below see every token
        if whole >= 1.0 or ratio < whole - 1e-9:
            raise StrategyError(
                f"fastv retains {whole:.1%} to 100.0% here, not {ratio:.1%}: "
                f"below fastv.layer={self.layer} all tokens live in each of the {extent.depth} "
                "layers"
            )
        return replace(self, drop=min(1.0, (1.0 - ratio) / (1.0 - whole)))

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        return view.keep_top(view.attention, budget)
