"""What the last row of every pass attends to, frame by frame, in every layer: for figures, off by
default.

It reads through the one tap: a row per layer, in fp32, summed over the tokens of a frame at once,
so that no attention map is kept.

Axes: `b` samples, `h` query heads, `g` key/value heads, `t` keys, `e` head width, `f` frames, `l`
LLM layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenprune.adapters import VideoLLM
from tokenprune.precision import exact
from tokenprune.runtime.attention import Tap, both, rows_at
from tokenprune.runtime.phase import Phase


class Row(NamedTuple):
    """Attention of one row, mean over query heads.

    Args:
        mass: of a softmax over all that the row sees, what falls on the tokens of each frame
        share: of a softmax over visual tokens alone, the mean over the tokens of each frame; sums
            to 1 over frames: DyToK's weights (section 3.2, eq. 2 and 3) of one layer
    """

    mass: Float[Tensor, "*n f"]
    share: Float[Tensor, "*n f"]


class Recorder:
    """Attention of the last row of the prompt, and of each generated token behind it.

    `attach(..., recorder=Recorder())` fills it: one prompt, or one padded batch, of one thread. A
    layer that sees a window of the prompt only is left out, as it is by allocators.
    """

    def __init__(self) -> None:
        self.layers: tuple[int, ...] = ()  # those that were read, lowest first
        self._passes: list[dict[int, Row]] = []

    @property
    def prompt(self) -> Row:
        """Of the prompt's last row: [b l f]. LookupError before one has gone through."""
        if not self._passes:
            raise LookupError("no video prompt has gone through the session of this recorder yet")
        return _stacked(self._passes[0])

    @property
    def steps(self) -> list[Row]:
        """Of each generated token that the model has read again: [b l f]."""
        return [_stacked(one) for one in self._passes[1:]]

    def around(
        self, adapter: VideoLLM, phase: Phase, taps: Mapping[nn.Module, Tap]
    ) -> dict[nn.Module, Tap]:
        """The taps of a pass, which read for themselves as before, with this one behind them."""
        whole = [layer for layer in range(adapter.depth) if adapter.window(layer) is None]
        self.layers, found = tuple(whole), dict(taps)
        rows: dict[int, Row] = {}
        for layer in whole:
            module = adapter.attention(layer)
            own = partial(self._read, phase, layer, rows)
            found[module] = both(taps.get(module), own)
        return found

    def _read(
        self,
        phase: Phase,
        layer: int,
        rows: dict[int, Row],
        query: Float[Tensor, "b h s e"],
        key: Float[Tensor, "b g t e"],
        scale: float,
    ) -> None:
        if phase.lap == "prefill":
            layout = phase.prompt.layouts[phase.prompt.at(layer)]
            own = rows_at(query, layout.ends)
        elif query.shape[2] == 1:
            own = query[:, :, 0]
        else:  # a further turn, of which no row is the one that is asked about
            return
        if not rows:
            self._passes.append(rows)
        frame, valid = (part.to(key.device) for part in phase.seen(layer))
        frames = max(phase.prompt.layouts[0].frames(sample) for sample in range(len(query)))
        rows[layer] = by_frame(own, key, scale, frame, valid, frames)


@exact
def by_frame(
    query: Float[Tensor, "b h e"],
    key: Float[Tensor, "b g t e"],
    scale: float,
    frame: Int[Tensor, "b t"],
    valid: Bool[Tensor, "b t"],
    frames: int,
) -> Row:
    """What one query of each sample sees of each frame; `frame` is negative on text."""
    grouped = query.float().unflatten(1, (key.shape[1], -1))
    scores = (grouped @ key.float().mT * scale).flatten(1, 2)
    visual = valid & (frame >= 0)
    place, seen = frame.clamp(min=0), visual.float()

    def summed(weights: Float[Tensor, "b t"]) -> Float[Tensor, "b f"]:
        # of a sample without visual tokens nothing is left to attend to
        return weights.new_zeros(len(weights), frames).scatter_add(
            1, place, weights.masked_fill(~visual, 0.0)
        )

    mass = summed(_softmax(scores, valid))
    share = summed(_softmax(scores, visual)) / summed(seen).clamp(min=1)
    return Row(mass, share / share.sum(-1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny))


def _softmax(scores: Float[Tensor, "b h t"], among: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    return scores.masked_fill(~among.unsqueeze(1), -torch.inf).softmax(-1).mean(1)


def _stacked(rows: Mapping[int, Row]) -> Row:
    """Layers may lie on several devices: what was read goes to the host."""
    layers = [rows[layer] for layer in sorted(rows)]
    mass, share = (
        torch.stack([part.cpu() for part in parts], 1) for parts in zip(*layers, strict=True)
    )
    return Row(mass, share)
