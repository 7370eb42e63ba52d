"""DyCoke's paper rules, worked out in its method description, and what we decided where the paper
is silent.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from arbitrary import blank, decode_attention, draws, later, video
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.tokens import TEXT, SequenceView


def cells(*runs: int | tuple[int, int]) -> list[int]:
    return [
        cell
        for run in runs
        for cell in ([run] if isinstance(run, int) else range(run[0], run[1] + 1))
    ]


WINDOW_1 = [(0, 8), 11, 13, 14, 15, 19, 20, 23, 24, 27, 29, 30, 34]
WINDOW_2 = [(36, 44), 46, 48, 49, 53, 55, 56, 58, 60, 64, 67, 70, 71]


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        (8, [*WINDOW_1, *WINDOW_2]),
        (5, [*WINDOW_1, (36, 44)]),
        (9, [*WINDOW_1, *WINDOW_2, (72, 80)]),
    ],
)
def test_dycoke_paper_rules(frames: int, kept: list[Any]) -> None:
    tokens = video(draws(1, frames * 9, 6), 9)
    out = DyCoke(merge=0.5).compress(tokens, DyCoke(merge=0.5).quota(tokens))
    assert (out.frame * 9 + out.slot).tolist() == cells(*kept)
    assert torch.equal(out.features, tokens.features[cells(*kept)])


@pytest.mark.parametrize("frames", range(1, 10))
def test_dycoke_takes_any_number_of_frames(frames: int) -> None:
    tokens = video(draws(2, frames * 9, 6), 9)
    for merge in (0.0, 0.5, 1.0):
        strategy = DyCoke(merge=merge)
        out, cut = strategy.compress(tokens, strategy.quota(tokens)), math.floor(9 * (1 - merge))
        assert out.counts.tolist() == [9 if frame % 4 == 0 else cut for frame in range(frames)]
    assert int(DyCoke().quota(tokens)[-1]) > 0  # the last frame is never lost


@pytest.mark.parametrize("frames", range(1, 5))
def test_dycoke_released_needs_five_frames(frames: int) -> None:
    with pytest.raises(
        StrategyError,
        match=f"fails on {frames} frames .*: sample more than 4, or write dycoke.follow=",
    ):
        DyCoke(follow="released").quota(blank(frames, 9))


def nearness(strength: list[float]) -> Tensor:
    """Rows of cosine 1 - strength with (1, 0)."""
    cosine = 1 - torch.tensor(strength)
    return torch.stack([cosine, (1 - cosine**2).sqrt()], dim=-1)


def test_dycoke_cut_anchors_rank_against_the_anchor_before() -> None:
    anchor = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    other = nearness([0.1, 0.4, 0.2, 0.3])
    frames = [anchor, other, anchor, anchor, other, anchor, anchor, anchor]
    tokens = video(torch.cat(frames), 4)
    kept = DyCoke().compress(tokens, torch.tensor([2, 1, 0, 0, 2, 1, 0, 0]))
    places = [kept.slot[kept.frame == frame].tolist() for frame in range(8)]
    assert places[0] == [1, 3]  # the first anchor: against the next frame
    assert places[4] == [1, 3]  # a later one: against the first anchor
    assert places[5] == [1]  # and the others against their own anchor, uncompressed


def test_dycoke_zero_tokens_resemble_nothing() -> None:
    features = torch.ones(2 * 4, 3)
    features[5] = 0
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        kept = DyCoke().compress(video(features.to(dtype), 4), torch.tensor([4, 1]))
        assert kept.slot[4:].tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dycoke_ties_go_to_the_lower_index(dtype: torch.dtype) -> None:
    tokens = video(draws(3, 16, 24).repeat(6, 1).to(dtype), 16)  # a still video
    kept = DyCoke(merge=0.5).compress(tokens, torch.tensor([5, 3, 2, 0, 4, 1]))
    assert kept.slot.tolist() == cells((0, 4), (0, 2), (0, 1), (0, 3), 0)


def test_dycoke_half_precision_is_scored_in_float32() -> None:
    # a nearly still video
    features = (3 * draws(6, 49, 64) + 0.2 * draws(5, 8, 49, 64)).flatten(0, 1).bfloat16()
    strategy = DyCoke()
    half, full = (
        strategy.compress(t, strategy.quota(t))
        for t in (video(features, 49), video(features.float(), 49))
    )
    assert torch.equal(half.slot, full.slot)
    assert half.features.dtype == torch.bfloat16


def test_merging_nothing_copies_nothing() -> None:
    tokens = video(draws(1, 45, 4), 9)
    assert DyCoke(merge=0.0).compress(tokens, DyCoke(merge=0.0).quota(tokens)) is tokens


CASE = {"seed": 7, "heads": 4, "S": 60, "start": 14, "L": 30}
SELECTED = [
    *[[15, 18, 19, 23, 27, 34, 37, 38, 39]] * 3,
    [15, 23, 30, 32, 34, 35, 39, 42, 43],
    [15, 18, 19, 22, 23, 27, 34, 38, 39],
]


def decode(strategy: DyCoke, steps: int = 5) -> list[list[int]]:
    """The visual rows each step sees."""
    frame = torch.full((CASE["S"],), TEXT)
    frame[CASE["start"] : CASE["start"] + CASE["L"]] = 0
    prompt = SequenceView(frame, torch.arange(CASE["S"]), torch.zeros(CASE["S"]))
    state, seen = strategy.start(), []
    for step in range(steps):
        view = later(prompt, step, decode_attention(CASE, step))
        visible, state = strategy.attend(view, state)
        assert bool(visible[~view.visual].all())
        seen.append((visible & view.visual).nonzero().squeeze(-1).tolist())
    return seen


def test_dycoke_keeps_the_last_selection_while_attention_is_similar() -> None:
    assert decode(DyCoke()) == SELECTED
    released = decode(DyCoke(follow="released"))
    assert [released[step] for step in (0, 3, 4)] == [SELECTED[step] for step in (0, 3, 4)]
    assert released[1] == released[2] == list(range(14, 44))
    assert decode(DyCoke(threshold=0.992))[1:3] == [SELECTED[0], decode(DyCoke(threshold=1.1))[2]]


def test_dycoke_similarity_to_the_last_update() -> None:
    """A drift that no step notices is noticed against the step that last selected."""
    frame, angles = torch.zeros(2, dtype=torch.long), torch.tensor([0.3, 0.6, 0.9, 1.2])
    for reference, turns in (("previous", False), ("last_update", True)):
        strategy = DyCoke(prune=0.5, reference=reference)  # pyright: ignore[reportArgumentType]
        state = strategy.start()
        selections = []
        for angle in angles:
            row = torch.stack([angle.cos(), angle.sin()])
            visible, state = strategy.attend(SequenceView(frame, torch.arange(2), row), state)
            selections.append(visible.tolist())
        assert selections[-1] == ([False, True] if turns else [True, False])
