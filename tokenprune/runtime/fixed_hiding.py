"""A decode stage on a static cache: it shows always as many rows, so that shapes stay as they are.

The layers from the stage's up keep their hidden rows in front and hand attention the slots behind
them, as those of `partitioned_cache` do. A change of the selection swaps rows; how many is known to
the device only, so as many pairs are swapped as ever can be, and those that have nothing to swap
take a slot of their own that nobody sees: they move no memory but that one row's.

What the stage itself does is one operation of the compiled graph: its code is the author's, and
runs as it is. Its state has to be tensors, which the graph finds again in their places.

Axes: `b` samples, `t` slots of a layer, `m` rows of the prompt, `k` pairs of rows, `g` key/value
heads, `e` width.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from tokenprune.errors import UnsupportedGenerationError
from tokenprune.guards import masks
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import last_row
from tokenprune.runtime.compiled_steps import CompiledSteps
from tokenprune.runtime.fixed_cache import FixedLayer
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.watched import Watched
from tokenprune.strategy import DecodeStage
from tokenprune.tokens import SequenceView

# who an operation of a graph is for, by where its mark lies: an operator knows tensors only, and of
# those that it writes a graph may hand it copies
HIDING: weakref.WeakValueDictionary[int, Hiding] = weakref.WeakValueDictionary()


class Hiding:
    """What a decode stage holds of one prompt, whose layout is the same in all layers."""

    def __init__(self, stage: DecodeStage, prompt: PromptState, room: int) -> None:
        layout = prompt.layouts[0]
        self.layer, self._stage = stage.layer, stage
        self._columns = layout.width + room
        real, self._valid = prompt.mask(0), layout.valid
        even = layout.valid.new_full(
            (layout.samples, self._columns), 1 / self._columns, dtype=torch.float32
        )
        self._seen = []
        for unit in prompt.units:
            own = None if real is None else torch.cat([real[unit.sample], real.new_ones(room)])
            watched = Watched(unit, prompt.frame(unit, 0), layout, self._columns, own)
            begun = self._begun(watched.view(even[unit.sample]), unit.sample)
            self._seen.append((unit.sample, watched, *begun))
        shown = self._visible(even, first=True)
        hidden = (~shown).sum(1)
        # read once, behind the prompt: how many rows each sample shows is what never changes
        self.hidden = hidden.tolist()
        self.start, most = min(self.hidden), max(self.hidden)
        self.real = (
            None
            if self.start == most
            else (
                torch.arange(self._columns, device=hidden.device)[self.start :]
                >= hidden.unsqueeze(-1)
            )
        )
        self.pairs = max(1, min(most, shown.shape[1] - self.start))
        width = shown.shape[1]
        # the column that lies in each slot, and behind them the slot that nobody sees
        self.order = torch.arange(width + 1, device=hidden.device).repeat(len(shown), 1)
        self._hidden, self._shown = hidden.unsqueeze(-1), torch.ones_like(shown)
        self._steps = torch.zeros((), dtype=torch.long, device=hidden.device)
        self.flips = torch.zeros(len(shown), room + 1, dtype=torch.bool, device=hidden.device)
        self.mark = torch.zeros(1, device=hidden.device)
        torch._dynamo.mark_static_address(self.mark)
        HIDING[self.mark.data_ptr()] = self
        # of the step under way
        self.noted: Any = None
        self.moves: Tensor | None = None

    def _begun(self, view: SequenceView, sample: int) -> tuple[list[Tensor], Any]:
        """The tensors of a state, in their places, and its form; refuses what changes its size."""
        begun = masks.start(self._stage, sample)
        first, state = masks.shown(self._stage, view, begun, True, sample)
        again, _ = masks.shown(self._stage, view, state, False, sample)
        leaves, form = tree_flatten(state)
        odd = not all(isinstance(leaf, Tensor) for leaf in leaves)
        if odd or int(first.sum()) != int(again.sum()):
            raise UnsupportedGenerationError(
                f"{self._stage.name} does not show as many rows in every step, which a static "
                "cache needs: leave cache_implementation out (the default dynamic cache)"
            )
        return [leaf.clone() for leaf in leaves], form

    def _visible(self, attention: Float[Tensor, "b t"], first: Any) -> Bool[Tensor, "b m"]:
        """Which rows of the prompt the stage shows; `first`: nothing was shown before."""
        width = self._valid.shape[1]
        visible = torch.nn.functional.pad(self._valid, (0, self._columns - width), value=True)
        first = torch.as_tensor(first, device=visible.device)
        for sample, watched, held, form in self._seen:
            view, rows = watched.view(attention[sample]), watched.rows(self._columns)
            start, known = masks.start(self._stage, sample), tree_unflatten(held, form)
            fresh, begun = masks.shown(self._stage, view, start, False, sample)
            kept, state = masks.shown(self._stage, view, known, False, sample)
            new, old = tree_flatten(begun)[0], tree_flatten(state)[0]
            for place, one, other in zip(held, new, old, strict=True):
                place.copy_(torch.where(first, one, other))
            visible[sample, rows] &= torch.where(first, fresh, kept)
        return visible[:, :width]

    @no_type_check  # what is in a graph has no checked annotations
    def note(self, query: Tensor, key: Tensor, scale: float, mask: Any) -> None:
        """Takes the new token's queries in the layer below the stage's, and that layer's keys."""
        self.noted = query, key, float(scale), mask

    @no_type_check
    def choose(self) -> None:
        """Asks the stage which rows swap slots in this step."""
        self.moves = chosen(*self.noted, self.mark, self.pairs)
        self.noted = None

    def moved(self, attention: Float[Tensor, "b t"]) -> Int[Tensor, "2 b k"]:
        """Slots that swap their rows, pair by pair; the last slot swaps with itself."""
        visible = self._visible(attention, self._steps == 0)
        changed = (visible != self._shown).any(1, keepdim=True)
        self.flips.scatter_(1, self._steps.expand(len(visible), 1), changed)
        self._steps += 1
        self._shown.copy_(visible)
        width = visible.shape[1]
        shown = visible.gather(1, self.order[:, :width])
        below = torch.arange(width, device=shown.device) < self._hidden
        rising, falling = shown & below, ~shown & ~below
        real = torch.arange(self.pairs, device=shown.device) < rising.sum(1, keepdim=True)
        pair = [
            part.logical_not().to(torch.int8).argsort(dim=1, stable=True)[:, : self.pairs]
            for part in (rising, falling)
        ]
        low, high = (torch.where(real, part, width) for part in pair)
        lower, higher = self.order.gather(1, low), self.order.gather(1, high)
        self.order.scatter_(1, low, higher)
        self.order.scatter_(1, high, lower)
        return torch.stack([low, high])


class HeldLayer(FixedLayer):
    """A static layer that shows the rows behind those that are hidden.

    Its first slot is the one that nobody sees.
    """

    held: Hiding | None = None
    last = False  # whether it is the last one of its model

    def hold(self, held: Hiding, last: bool) -> None:
        """From now on `held` says what is shown."""
        assert self.keys is not None and self.values is not None
        spare, keys, values = 1, self.keys, self.values
        self.held, self.max_cache_len = held, self.max_cache_len + spare
        self.keys, self.values = (
            torch.nn.functional.pad(part, (0, 0, spare, 0)) for part in (keys, values)
        )
        self.cumulative_length.add_(spare)
        for part in (self.keys, self.values):
            torch._dynamo.mark_static_address(part)
        self.real, self.above, self.last = held.real, True, last

    @property
    @no_type_check
    def slots(self) -> int:
        """How many slots attention gets."""
        return self.max_cache_len if self.held is None else self.max_cache_len - 1 - self.held.start

    @no_type_check
    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        held = self.held
        if held is None:
            return super().update(key_states, value_states, *args, **kwargs)
        # the last slot of an order is the first of a layer
        first, second = ((held.moves + 1) % held.order.shape[1])[:, :, None, :, None]
        for part in (self.keys, self.values):
            shape = (-1, part.shape[1], -1, part.shape[3])
            low, high = first.expand(shape), second.expand(shape)
            lower, higher = part.gather(2, low), part.gather(2, high)
            part.scatter_(2, low, higher)
            part.scatter_(2, high, lower)
        if self.last:  # nothing of a step is left on what outlives it
            held.moves = None
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        begin = 1 + held.start
        return keys[:, :, begin:], values[:, :, begin:]

    def reset(self) -> None:
        self.held = None
        super().reset()


def settle(layers: Sequence[Any], prompt: PromptState, stage: DecodeStage) -> None:
    """After a prompt: the layers of a static cache from the stage's up show what it holds."""
    if not isinstance(first := layers[0], HeldLayer):
        return
    held = Hiding(stage, prompt, first.max_cache_len - first.rows)
    for number in range(stage.layer, len(layers)):
        layers[number].hold(held, number == len(layers) - 1)
    layout = prompt.layouts[0]
    for sample, report in enumerate(prompt.report.samples):
        if report is not None:
            seen = layout.width - held.hidden[sample] - layout.text(sample)
            flips, columns = held.flips[sample], first.cumulative_length
            report.compiled = CompiledSteps(columns, layout.width, seen, flips)


SCHEMA = "(Tensor query, Tensor key, float scale, Tensor mask, Tensor mark, SymInt pairs) -> Tensor"


@torch.library.custom_op("tokenprune::held", mutates_args=(), schema=SCHEMA)
@no_type_check
def chosen(
    query: Tensor, key: Tensor, scale: float, mask: Tensor, mark: Tensor, pairs: int
) -> Tensor:
    """`Hiding.moved`, of the attention that a query gives to the slots of a layer."""
    seen = mask[:, 0, 0] if mask.dtype == torch.bool else mask[:, 0, 0] == 0
    with torch.no_grad(), full_precision():
        return HIDING[mark.data_ptr()].moved(last_row(query[:, :, 0], key, scale, seen))


@chosen.register_fake
@no_type_check
def _(query: Tensor, key: Tensor, scale: float, mask: Tensor, mark: Tensor, pairs: int) -> Tensor:
    return torch.empty(2, query.shape[0], pairs, dtype=torch.long, device=query.device)
