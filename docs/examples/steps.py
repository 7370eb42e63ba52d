from dataclasses import dataclass, replace
from itertools import pairwise

from tokenprune import Adjustable, PrefillStage, StrategyError, ops


@dataclass(frozen=True)
class Steps(PrefillStage, Adjustable, name="steps"):
    """Control: at several layers, the rows that the question attends to most; frames compete.

    Args:
        keep: fraction of the rows kept at each layer, 0 to 1
        number: layers at which rows are dropped, spread evenly over the language model
    """

    keep: float = 0.5
    number: int = 3

    def __post_init__(self):
        ops.fraction("steps.keep", self.keep)

    def layers(self, depth):
        found = (depth * step // (self.number + 1) for step in range(1, self.number + 1))
        return tuple(sorted({max(1, layer) for layer in found}))

    def quota(self, view):
        asked = view.attend(view.behind)
        return view.quota_of(asked, ops.count(int(view.counts.sum()), self.keep))

    def prune(self, view, budget):
        return view.keep_top(view.attend(view.behind), budget)

    def retaining(self, ratio, extent):
        layers = self.layers(extent.depth)

        def left(keep):
            """The mean over layers of the fraction that lives."""
            spans = enumerate(pairwise((0, *layers, extent.depth)))
            return sum(keep**step * (upto - start) for step, (start, upto) in spans) / extent.depth

        if not left(0.0) <= ratio <= 1.0:
            raise StrategyError(
                f"steps retains {left(0.0):.1%} to 100.0% here, not {ratio:.1%}: "
                f"all tokens live below layer {layers[0]}"
            )
        return replace(self, keep=ops.solve(left, ratio))
