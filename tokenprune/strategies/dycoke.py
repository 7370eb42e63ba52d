"""DyCoke deletes temporally redundant tokens and, while decoding, hides unattended ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from operator import gt, lt
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops, ragged, resembling
from tokenprune.hosted import numbers
from tokenprune.strategy import Adjustable, DecodeStage, Extent, StrategyError, VisionStage
from tokenprune.tokens import SequenceView, VisualTokens

WINDOW = 4  # frames that share an anchor


@torch.no_grad()  # it ranks, and is written in place
def similarity(features: Float[Tensor, "f n d"], anchors: bool = False) -> Float[Tensor, "f n"]:
    """Cosine in float32 of every token with the token in the same place of its frame's reference.

    In a window f0 f1 f2 f3 the references are f1 -> f0, f2 -> f0, f3 -> f2 (section 3.2), all of
    them uncompressed. An anchor f0, which only an allocator cuts, is its own; with `anchors`, the
    anchor before, and of the first one f1.
    """
    result = resembling.to_reference(features, (0, 0, 0, 2))
    if anchors:
        result[WINDOW::WINDOW] = ops.cosine(features[WINDOW::WINDOW], features[:-WINDOW:WINDOW])
        result[0] = result[min(1, len(features) - 1)]
    return result


class Memory(NamedTuple):
    """Decode state of one sample: the visible visual rows, and the attention to compare with."""

    selected: Bool[Tensor, "v"] | None = None
    reference: Float[Tensor, "v"] | None = None


@dataclass(frozen=True)
class DyCoke(VisionStage, DecodeStage[Memory], Adjustable, name="dycoke"):
    """DyCoke: Dynamic Compression of Tokens for Fast Video Large Language Models (Tao et al., CVPR 2025), https://arxiv.org/abs/2411.15024

    Temporal merging (which deletes, and averages nothing): of every four frames the first stays
    whole, the others lose the fraction `merge` of their tokens, those most similar to the reference
    frame. Dynamic pruning: from LLM layer `layer` up a decoding step attends to text and to the
    `1 - prune` of visual rows that the new token attends to most in layer `layer - 1`; the choice
    is renewed when that attention has changed (cosine below `threshold`).

    Decisions: counts truncate as published (`int((1 - K) * n)`). An incomplete last window follows
    the same rules, so any number of frames works. With an allocator a cut anchor ranks against the
    previous window's anchor, the first against the next frame.

    Differs from the authors' code (`follow="released"` restores it, for parity): there the last
    window keeps its third frame whole, a trailing odd frame is lost, four frames or fewer fail,
    tokens of a cut frame come in ascending similarity, and a step with similar attention sees
    everything instead of the last selection. Never reproduced: state that leaks into the next
    video, a visual span one short, half-precision scores. The released default of `prune` in its
    evaluation script is 0.8.

    Args:
        merge: fraction of tokens deleted from a compressed frame, 0 to 1 (the paper's K)
        prune: fraction of visual rows hidden while decoding, 0 to 1 (P)
        layer: first LLM layer (0-based, from 1) that decodes with hidden rows (L)
        threshold: the last selection stays while attention's cosine is at least this, up to 1
        reference: attention is compared with that of the "previous" step, or of the step of the
            last selection ("last_update")
        follow: "paper", or "released" for the authors' code as described above
        offload: hidden rows lie in host memory, which frees the accelerator's; same answers
    """

    merge: float = 0.7
    prune: float = 0.7
    layer: int = 3
    threshold: float = 0.9
    reference: Literal["previous", "last_update"] = "previous"
    follow: Literal["paper", "released"] = "paper"
    offload: bool = False

    mixes_frames: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction(f"{self.name}.merge", self.merge)
        ops.fraction(f"{self.name}.prune", self.prune)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        if self.follow == "released" and tokens.frames <= WINDOW:
            raise StrategyError(
                f"{self.name}.follow=released fails on {tokens.frames} frames as the authors' "
                f"code does: sample more than {WINDOW}, or write {self.name}.follow=paper"
            )
        kept = map(partial(self._kept, tokens.frames), range(tokens.frames), numbers(tokens.counts))
        return hosted.sent([*kept], tokens.frame.device)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        counts, cut = tokens.counts, [*map(lt, numbers(budget), numbers(tokens.counts))]
        distinct = tokens.of_cells(-similarity(tokens.dense(), anchors=any(cut[::WINDOW])))
        if self.follow == "paper":
            return tokens.keep_top(distinct, budget)
        anchors = map(partial(self._whole, tokens.frames), range(tokens.frames))
        whole = hosted.sent([*map(gt, anchors, cut)], distinct.device).bool().unsqueeze(-1)
        order = ops.ranking(distinct.masked_fill(whole, 0), ragged.real(counts, distinct.shape[1]))
        return tokens[ops.leading(order, counts, budget)]

    def retaining(self, ratio: float, extent: Extent) -> DyCoke:
        alive = extent.frames if self.follow == "paper" else extent.frames // 2 * 2
        whole = sum(map(partial(self._whole, extent.frames), range(alive)))
        least, most = whole / extent.frames, alive / extent.frames
        if not least - 1e-9 <= ratio <= most:
            raise StrategyError(
                f"{self.name} retains {least:.1%} to {most:.1%} here, not {ratio:.1%}: "
                f"merging leaves {whole} of {extent.frames} frames whole"
            )
        tokens = round((ratio * extent.frames - whole) * extent.cells / max(1, alive - whole))
        # a hair more than these tokens: truncation loses one where the product falls short of them
        return replace(self, merge=max(0.0, 1.0 - tokens / extent.cells - 1e-9))

    def _kept(self, frames: int, frame: int, there: int) -> int:
        """How many of its tokens a frame keeps."""
        if self.follow == "released" and frame >= frames // 2 * 2:
            return 0
        keep = 1.0 if self._whole(frames, frame) else 1.0 - self.merge
        return ops.count(there, keep, "down")

    def _whole(self, frames: int, frame: int) -> bool:
        """Whether it keeps all: anchors, and as released the last window's third frame."""
        third = frame % WINDOW == 2 and frame - 2 >= frames - WINDOW
        return frame % WINDOW == 0 or (third and self.follow == "released")

    def start(self) -> Memory:
        return Memory()

    def attend(self, view: SequenceView, state: Memory) -> tuple[Bool[Tensor, "s"], Memory]:
        received = view.attention.index_select(0, view.rows)
        selected = ops.keep_top(received, ops.count(len(received), 1.0 - self.prune, "down"))
        reference = received
        if state.selected is not None and state.reference is not None:
            similar = ops.cosine(received, state.reference) >= self.threshold
            held = torch.ones_like(selected) if self.follow == "released" else state.selected
            selected = torch.where(similar, held, selected)
            if self.reference == "last_update":
                reference = torch.where(similar, state.reference, received)
        text = torch.ones_like(view.frame, dtype=torch.bool)
        return text.scatter(0, view.rows, selected), Memory(selected, reference)
