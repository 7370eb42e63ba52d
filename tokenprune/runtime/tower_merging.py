"""A `TowerMerger` at work, exactly as its paper has it, without a line of the tower rewritten.

Behind a layer's attention its stock code knows one number of rows only, so merging is spread over
four hooks: the norm in front of the feed-forward network gets merged rows, what that network
returns is handed to every member, and their sums, which the layer makes itself, are merged again.
Members hold the same addend, so that this is the merged row plus what was made of it.

Axes: `i` frames, `n` rows of one before a layer, `m` behind it, `s` rows of all frames one after
another, `r` rows of the grid, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tokenprune import merging
from tokenprune.adapters.vision import TowerBlock
from tokenprune.guards import tower
from tokenprune.runtime.attention import Tap, both
from tokenprune.runtime.hooks import Hook
from tokenprune.runtime.tower_call import TowerCall
from tokenprune.runtime.tower_report import TowerLayer
from tokenprune.strategy import TowerMerger

Current = Callable[[], Any]  # the call under way in this thread, None outside


class Merging(TowerCall):
    """One call: groups and sizes of all frames, layer by layer."""

    def __init__(
        self, stage: TowerMerger, blocks: Sequence[TowerBlock], frames: int, rows: int, first: int
    ) -> None:
        super().__init__(blocks, rows)
        self._stage, self._blocks, self._frames, self._first = stage, blocks, frames, first
        self._removed = tower.removed(stage, len(blocks), rows, first)
        # rows of a frame before each layer, and behind the last
        self._left = [*accumulate(self._removed, lambda left, gone: left - gone, initial=rows)]
        self.merge: Merge | None = None  # what the layer under way does to its rows
        self._sizes: Float[Tensor, "s"] | None = None  # of all frames in one row; None: all 1
        # of every row of the grid, the one that stands for it, in each hidden state
        self._standing: list[Int[Tensor, "i r"] | None] = [None]

    @staticmethod
    def hooks(blocks: Sequence[TowerBlock], current: Current) -> list[RemovableHandle]:
        """Hooks that leave a call alone which is none of this stage's."""
        placed: list[RemovableHandle] = []
        for number, block in enumerate(blocks):
            weigh, merge = partial(_weigh, current), partial(_merged_input, current)
            spread, end = partial(_spread_output, current), partial(_end, current, number)
            placed += [
                block.attention.register_forward_pre_hook(Hook(weigh), with_kwargs=True),
                block.norm.register_forward_pre_hook(Hook(merge)),
                block.mlp.register_forward_hook(Hook(spread)),
                # hidden states are recorded by a hook, too, which has to see merged ones
                block.layer.register_forward_hook(Hook(end), prepend=True),
            ]
        return placed

    def taps(self) -> dict[nn.Module, Tap]:
        pairs = enumerate(zip(self._blocks, self._removed, strict=True))
        return {
            block.attention: partial(self._read, number) for number, (block, gone) in pairs if gone
        }

    def around(self, number: int, tap: Tap) -> Tap:
        return both(self.taps().get(self._blocks[number].attention), tap)

    def worked(self, frames: slice) -> list[TowerLayer]:
        number = len(range(*frames.indices(self._frames)))
        return [
            TowerLayer(number * before, number * before**2, number * behind)
            for before, behind in pairwise(self._left)
        ]

    def place(self, number: int) -> Int[Tensor, "f r"] | None:
        return self._standing[number]

    def _read(self, number: int, query: Tensor, key: Tensor, scale: float) -> None:
        """Groups the rows of a layer, from its own keys."""
        metric = key.float().mean(1)
        group = tower.group(self._stage, metric, self._removed[number], self._first)
        self.merge = Merge(group, self._sizes, self._left[number + 1])

    @property
    def mask(self) -> Float[Tensor, "i 1 1 n"] | None:
        """What attention adds to the logits of each key."""
        if self._sizes is None or not self._stage.proportional:
            return None
        return self._sizes.log().unflatten(0, (self._frames, 1, 1, -1))

    def end(self) -> None:
        """A layer has ended."""
        before, merge, self.merge = self._standing[-1], self.merge, None
        if merge is not None:
            self._sizes = merge.sizes
            before = merge.place if before is None else merge.place.take(before)
        self._standing.append(before)


class Merge:
    """Rows of some frames into fewer: weighted means of their groups.

    Args:
        group: of every row
        sizes: how many rows of the grid each of them is, of all frames in one row; None: 1
        rows: groups of a frame
    """

    def __init__(
        self, group: Int[Tensor, "i n"], sizes: Float[Tensor, "s"] | None, rows: int
    ) -> None:
        number, device = len(group) * rows, group.device
        self._shape = len(group), rows
        first = torch.arange(0, number, rows, device=device).unsqueeze(1)
        # the merged row, counted through all frames, that stands for each
        self.place = group + first
        self._flat = self.place.flatten()
        if sizes is None:
            sizes = torch.ones_like(self._flat, dtype=torch.float32)
        self.sizes = sizes.new_zeros(number).index_add_(0, self._flat, sizes)
        # members of a group side by side, so that a mean is one pass over the states
        ordered, self._member = self._flat.sort(stable=True)
        self._start = torch.searchsorted(ordered, torch.arange(number, device=device))
        # each member's part of the mean: exactly 1 where a row stays alone
        own, whole = sizes.index_select(0, self._member), self.sizes.index_select(0, ordered)
        self._weight = own / whole

    def mean(self, states: Float[Tensor, "i n d"]) -> Float[Tensor, "i m d"]:
        rows, weight = states.flatten(0, 1), self._weight.to(states.dtype)
        sums = merging.sums_of_runs(rows, self._member, self._start, weight)
        return sums.unflatten(0, self._shape)

    def spread(self, states: Float[Tensor, "i m d"]) -> Float[Tensor, "i n d"]:
        return states.flatten(0, 1).index_select(0, self._flat).unflatten(0, self.place.shape)


def _weigh(current: Current, module: nn.Module, args: Any, kwargs: Any) -> Any:
    call = current()
    if call is None or (mask := call.mask) is None:
        return None
    states = next(iter((*args, *kwargs.values())))
    return args, {**kwargs, "attention_mask": mask.to(states.device, states.dtype)}


def _merged_input(current: Current, module: nn.Module, args: Any) -> Any:
    call = current()
    if call is None or call.merge is None:
        return None
    return (call.merge.mean(args[0]), *args[1:])


def _spread_output(current: Current, module: nn.Module, args: Any, output: Tensor) -> Any:
    call = current()
    return None if call is None or call.merge is None else call.merge.spread(output)


def _end(current: Current, number: int, module: nn.Module, args: Any, output: Any) -> Any:
    call = current()
    if call is None:
        return None
    merge = call.merge
    call.end()
    if merge is None:
        return None
    if isinstance(output, tuple):  # a layer of older releases
        return (merge.mean(output[0]), *output[1:])
    return merge.mean(output)
