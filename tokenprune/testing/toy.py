"""A toy language model: random layers with causal attention, through which a strategy is led.

It computes what a view may be asked for, drops rows where a stage says so, and counts them. All
events run in order, so that what one leaves is what the next one sees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune.sequence import TEXT, Recorded, SequenceView
from tokenprune.strategy import Adjustable, Condenser, PrefillStage, VisionStage
from tokenprune.testing.cases import Chance
from tokenprune.testing.inputs import Place
from tokenprune.testing.law import applies, holds, law
from tokenprune.testing.prefill import check_event, rows_of
from tokenprune.testing.vision import check_quota, wanted
from tokenprune.tokens import Extent, Survivors, VisualTokens

WIDTH, HEADS, GROUPS, HEAD = 16, 4, 2, 4


class Layer(NamedTuple):
    """The matrices of a layer."""

    queries: Float[Tensor, "d a"]
    keys: Float[Tensor, "d b"]
    onward: Float[Tensor, "d d"]

    @classmethod
    def drawn(cls, generator: torch.Generator) -> Layer:
        sizes = (HEADS * HEAD, GROUPS * HEAD, WIDTH)
        return cls(*(torch.randn(WIDTH, size, generator=generator) / 4 for size in sizes))

    def split(self, hidden: Float[Tensor, "s d"]) -> tuple[Tensor, Tensor]:
        """Queries `[s h e]` and keys `[s g e]`."""
        queries, keys = hidden @ self.queries, hidden @ self.keys
        return queries.unflatten(1, (HEADS, HEAD)), keys.unflatten(1, (GROUPS, HEAD))

    def __call__(self, hidden: Float[Tensor, "s d"]) -> Float[Tensor, "s d"]:
        queries, keys = self.split(hidden)
        keys = keys.repeat_interleave(HEADS // GROUPS, 1)
        scores = torch.einsum("qhe,khe->hqk", queries, keys) * HEAD**-0.5
        later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(-1).mean(0)
        return _normed(hidden + torch.tanh(weights @ hidden @ self.onward))


def _normed(hidden: Float[Tensor, "s d"]) -> Float[Tensor, "s d"]:
    return hidden / (hidden.square().mean(-1, keepdim=True) + 1e-6).sqrt()


@dataclass(frozen=True)
class Rows:
    """Rows on their way through the layers, text among them."""

    hidden: Float[Tensor, "s d"]
    frame: Int[Tensor, "s"]
    slot: Int[Tensor, "s"]
    position: Int[Tensor, "s"]

    def left(self, rows: Int[Tensor, "m"], hidden: Tensor | None) -> Rows:
        states = self.hidden[rows] if hidden is None else hidden
        return Rows(states, self.frame[rows], self.slot[rows], self.position[rows])


class Tried(NamedTuple):
    """A strategy on one video, and how many LLM layers there are."""

    tokens: VisualTokens
    depth: int
    seed: int


def drawn(strategy: Any, chance: Chance, slots: list[list[int]], cells: int, depth: int) -> Tried:
    """A video of the toy's width."""
    tokens = chance.tokens(slots, cells, wanted(strategy), "smooth")
    features = torch.randn(len(tokens), WIDTH, generator=chance.generator)
    words = None if tokens.text is None else torch.randn(3, WIDTH, generator=chance.generator)
    return Tried(replace(tokens, features=features, text=words), depth, chance.draw.getrandbits(30))


def led_through(strategy: Any, tried: Tried) -> list[int]:
    """How many visual rows each layer sees; what the laws ask of one event, every one keeps."""
    generator = torch.Generator().manual_seed(tried.seed)
    tokens = tried.tokens
    if isinstance(strategy, VisionStage):
        tokens = strategy.compress(tokens, strategy.quota(tokens))
    elif isinstance(strategy, Condenser):
        tokens = strategy.condense(tokens)
    rows = _prompt(tokens, generator)
    prompt, last, seen = rows.hidden, rows, []
    events = strategy.layers(tried.depth) if isinstance(strategy, PrefillStage) else ()
    below = Layer.drawn(generator)
    for number in range(tried.depth):
        if isinstance(strategy, PrefillStage) and number in events:
            recorded = _read(below, last, rows, prompt)
            rows = _event(strategy, rows, recorded, tokens, Place(number, tried.depth, (*seen,)))
        seen.append(int((rows.frame != TEXT).sum()))
        last, below = rows, Layer.drawn(generator)
        rows = replace(rows, hidden=below(rows.hidden))
    return seen


def _prompt(tokens: VisualTokens, generator: torch.Generator) -> Rows:
    """Words, the video, words."""
    words = torch.randn(5, WIDTH, generator=generator)
    text = torch.full((5,), TEXT)
    frame = torch.cat([text[:2], tokens.frame, text[2:]])
    slot = torch.cat([text[:2] * 0, tokens.slot, text[2:] * 0])
    hidden = torch.cat([words[:2], tokens.features.float(), words[2:]])
    return Rows(hidden, frame, slot, torch.arange(len(frame)))


def _read(below: Layer, last: Rows, rows: Rows, prompt: Tensor) -> Recorded:
    """What can be read before a layer: the layer below saw `last`, which are the same rows."""
    queries, keys = below.split(last.hidden)
    return Recorded(rows.hidden, _normed(rows.hidden), keys, prompt, queries)


def _event(
    stage: PrefillStage, rows: Rows, recorded: Recorded, tokens: VisualTokens, place: Place
) -> Rows:
    """What is left behind one event, if it keeps the laws."""
    view = SequenceView(
        rows.frame,
        rows.position,
        frames=tokens.frames,
        slot=rows.slot,
        cells=tokens.cells,
        layer=place.layer,
        depth=place.depth,
        seen=torch.tensor(place.seen),
        reading=recorded,
    )
    budget = stage.quota(view)
    check_quota(budget, view)
    left = stage.prune(view, budget)
    check_event(left, view, budget)
    hidden = left.hidden if isinstance(left, Survivors) else None
    return rows.left(rows_of(left, view), hidden)


RATIOS = (1.0, 0.75, 0.5, 0.25)
WHOLE = Extent(frames=8, cells=16, depth=8)


@law("all of its events in order keep the laws, each on what the one before it left")
def events(strategy: Any, tried: Tried) -> None:
    led_through(strategy, tried)


@law("asked for a retention it reaches it, averaged over layers, to the token per frame")
def retention(strategy: Any, case: tuple[float, Tried]) -> None:
    applies(isinstance(strategy, Adjustable), "takes no retention (Adjustable)")
    ratio, tried = case
    tokens = tried.tokens
    extent = Extent(tokens.frames, tokens.cells, tried.depth)
    adjusted = strategy.retaining(ratio, extent)
    holds(type(adjusted) is type(strategy), f"retaining returned {type(adjusted).__name__}")
    holds(adjusted.retaining(ratio, extent) == adjusted, "asked again it takes other options")
    if isinstance(strategy, Condenser):  # how many are left is for the content to say
        return
    whole = tried.depth * int(tokens.available.sum())
    found = sum(led_through(adjusted, tried)) / whole
    holds(
        abs(found - ratio) <= 1 / tokens.cells + 1e-6,
        f"asked for {ratio:.1%} it leaves {found:.1%} of {tokens.frames} frames of {tokens.cells} "
        f"tokens in {tried.depth} layers",
    )
