"""A `TowerReuser` at work: rows that skip the tower are taken out in front of its first layer.

The rows that are left go through the layers as one sequence. Norms, projections and feed-forward
networks treat each row alone; only attention knows frames, and there the model's own kernel is
called for frames with equally many rows at once. Every frame has all its keys: those of a row that
skips are the ones of the row whose result it takes. So no call needs a mask.

A CLS row skips where all patches of its frame do.

Axes: `f` frames, `p` patches of one, `r` rows of one with CLS, `n` rows that are left, `h` heads,
`e` head width, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tokenprune.adapters.vision import TowerBlock
from tokenprune.guards import tower
from tokenprune.ops import marked
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import Tap
from tokenprune.runtime.hooks import Hook
from tokenprune.runtime.tapping import Kernel, Routed
from tokenprune.runtime.tower_call import TowerCall
from tokenprune.runtime.tower_report import TowerLayer
from tokenprune.strategy import TowerReuser


class Reusing(TowerCall):
    """One call: which rows are left, and of each of the grid the one that stands for it."""

    def __init__(self, blocks: Sequence[TowerBlock], left: Bool[Tensor, "f r"]) -> None:
        super().__init__(blocks, left.shape[1])
        self._blocks = blocks
        self._counts: list[int] = left.sum(1).tolist()
        self._chosen = marked(left.flatten(), sum(self._counts))
        number = torch.arange(len(left), device=left.device).unsqueeze(1)
        last = torch.where(left, number, 0).cummax(0).values  # the first frame has all
        numbers = left.flatten().cumsum(0).unflatten(0, left.shape) - 1
        self._standing = numbers.gather(0, last)

    @classmethod
    def of(
        cls,
        stage: TowerReuser,
        blocks: Sequence[TowerBlock],
        videos: Sequence[Float[Tensor, "f p v"]],
        first: int,
    ) -> Reusing:
        """`videos` are patches; `first` rows of each frame come before them."""
        with torch.no_grad(), full_precision():
            left = ~torch.cat([tower.taken(stage, patches) for patches in videos])
        begins = [0]
        for patches in videos[:-1]:
            begins.append(begins[-1] + len(patches))
        left[begins] = True
        if first:
            left = torch.cat([left.any(1, keepdim=True), left], dim=1)
        return cls(blocks, left)

    @staticmethod
    def hooks(blocks: Sequence[TowerBlock], current: Callable[[], Any]) -> list[RemovableHandle]:
        """One, in front of the first layer."""
        enter = Hook(partial(_enter, current))
        return [blocks[0].layer.register_forward_pre_hook(enter)]

    def taps(self) -> dict[nn.Module, Tap]:
        return {block.attention: _Frames(self) for block in self._blocks}

    def around(self, number: int, tap: Tap) -> Tap:
        return _Frames(self, tap)

    def worked(self, frames: slice) -> list[TowerLayer]:
        rows = sum(self._counts[frames])
        return [TowerLayer(rows, rows * self.rows, rows)] * len(self._blocks)

    def place(self, number: int) -> Int[Tensor, "f r"] | None:
        return self._standing

    def left(self, states: Float[Tensor, "f r d"]) -> Float[Tensor, "1 n d"]:
        """The rows that go through the tower."""
        chosen = self._chosen.to(states.device)
        return states.flatten(0, 1).index_select(0, chosen).unsqueeze(0)

    def attended(
        self,
        kernel: Kernel,
        module: nn.Module,
        query: Float[Tensor, "1 h n e"],
        key: Float[Tensor, "1 h n e"],
        value: Float[Tensor, "1 h n e"],
        mask: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "1 n h e"], None]:
        """What the kernel makes of the rows that are left, frame by frame."""
        done: dict[int, Tensor] = {}
        parts = query.split(self._counts, dim=2)
        for count in {*self._counts} - {0}:
            frames = [frame for frame, own in enumerate(self._counts) if own == count]
            asked = torch.cat([parts[frame] for frame in frames])
            keys, values = (self._keys(states, frames) for states in (key, value))
            made, _ = kernel(module, asked, keys, values, mask, **kwargs)
            done.update(zip(frames, made.unbind(), strict=True))
        return torch.cat([done[frame] for frame in sorted(done)]).unsqueeze(0), None

    def _keys(
        self, states: Float[Tensor, "1 h n e"], frames: Sequence[int]
    ) -> Float[Tensor, "f h r e"]:
        """Keys or values of every row of some frames."""
        whole = len(frames) == len(self._counts)
        rows = self._standing if whole else self._standing[frames]
        rows = rows.to(states.device)
        every = states[0].index_select(1, rows.flatten()).unflatten(1, rows.shape)
        return every.transpose(0, 1)


class _Frames(Routed):
    """Runs a layer's kernel frame by frame."""

    def __init__(self, call: Reusing, tap: Tap | None = None) -> None:
        self._call, self._tap = call, tap

    def __call__(self, query: Tensor, key: Tensor, scale: float) -> None:
        if self._tap is not None:
            self._tap(query, key, scale)

    def routed(self, kernel: Kernel) -> Kernel:
        return partial(self._call.attended, kernel)


def _enter(current: Callable[[], Any], module: nn.Module, args: Any) -> Any:
    call = current()
    return None if call is None else (call.left(args[0]), *args[1:])
