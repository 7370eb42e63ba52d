"""VidCom2: its equations written out, both of them, and its properties."""

from __future__ import annotations

import math
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import draws, video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.strategies.vidcom2 import VidCom2, likeness
from tokenprune.tokens import VisualTokens

TOKENS = video(draws(61, 5 * 12, 8), 12)


def kernel(a: Tensor, b: Tensor) -> float:
    distance = float((a - b).square().sum())
    return sum(math.exp(-distance / (2 * width)) for width in (1 / 8, 1 / 4, 1 / 2, 1, 2))


def cosine(a: Tensor, b: Tensor) -> float:
    norms = float(a.norm() * b.norm())
    return float(a @ b) / norms if norms else 0.0


def by_hand(tokens: VisualTokens, keep: float, released: bool) -> tuple[list[int], list[list[int]]]:
    """Counts and kept tokens as the equations say, in float64; a score is video's and frame's."""
    x = tokens.features.double()
    if released:
        variance = x.var(0, correction=0).tolist()
        order = sorted(range(len(variance)), key=lambda channel: (variance[channel], channel))
        x = x[:, sorted(order[: len(order) // 2])]
        x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
    like = kernel if released else cosine
    frames = [x[tokens.frame == frame] for frame in range(tokens.frames)]
    video_like = [[like(token, x.mean(0)) for token in frame] for frame in frames]
    frame_like = [[like(token, frame.mean(0)) for token in frame] for frame in frames]
    real = [frame for frame in range(tokens.frames) if video_like[frame]]
    unusual = {frame: -sum(video_like[frame]) / len(video_like[frame]) for frame in real}
    most = max(unusual.values())
    weight = {frame: math.exp((unusual[frame] - most) / 0.01) for frame in real}
    total = sum(weight.values()) + (0 if released else 1e-8)
    counts, kept = [0] * tokens.frames, [[] for _ in range(tokens.frames)]
    for frame in real:
        n = len(video_like[frame])
        rate = keep * (1 + weight[frame] / total - 1 / len(real))
        count = max(1, round(min(1, rate) * n)) if released else min(n, math.ceil(rate * n))
        counts[frame] = count
        score = [a + b for a, b in zip(video_like[frame], frame_like[frame], strict=True)]
        kept[frame] = sorted(sorted(range(n), key=lambda token: score[token])[:count])
    return counts, kept


@given(st.data(), st.sampled_from(["paper", "released"]), st.sampled_from([0.1, 0.25, 0.6, 0.9]))
def test_the_equations(data: st.DataObject, follow: Any, keep: float) -> None:
    """On frames of any size, also without a token."""
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    frames, cells = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    size, width = frames * cells, data.draw(st.integers(4, 9))
    there = torch.rand(size, generator=generator) < data.draw(st.sampled_from([0.6, 2.0]))
    there[0] = True
    tokens = video(torch.randn(size, width, generator=generator), cells)[there]
    strategy = VidCom2(keep=keep, follow=follow)
    counts, kept = by_hand(tokens, keep, follow == "released")
    quota = strategy.quota(tokens)
    near = [abs(a - b) for a, b in zip(quota.tolist(), counts, strict=True)]
    assert max(near) <= 1  # float32 at a half or a whole number
    left = strategy.compress(tokens, torch.tensor(counts))
    for frame, places in enumerate(kept):
        slots = tokens.slot[tokens.frame == frame][places]
        assert left.slot[left.frame == frame].tolist() == slots.tolist()


def test_a_video_is_worked_out_by_hand() -> None:
    assert by_hand(TOKENS, 0.25, True)[0] == VidCom2().quota(TOKENS).tolist()
    assert by_hand(TOKENS, 0.25, False)[0] == VidCom2(follow="paper").quota(TOKENS).tolist()


@pytest.mark.parametrize("follow", ["paper", "released"])
def test_equal_frames_get_equal_budgets(follow: Any) -> None:
    tokens = video(draws(62, 12, 8).repeat(4, 1), 12)
    assert VidCom2(keep=0.25, follow=follow).quota(tokens).tolist() == [3] * 4
    assert VidCom2(keep=0.5, follow=follow).quota(tokens).tolist() == [6] * 4


def test_an_unusual_frame_gets_more() -> None:
    features = draws(63, 12, 8) + 0.05 * draws(64, 6 * 12, 8).unflatten(0, (6, 12))
    features[3] = draws(65, 12, 8)
    tokens = video(features.flatten(0, 1), 12)
    for strategy, others in ((VidCom2(keep=0.5), 5), (VidCom2(keep=0.5, follow="paper"), 6)):
        quota = strategy.quota(tokens)
        assert int(quota.argmax()) == 3
        assert int(quota[3]) == math.ceil(0.5 * (2 - 1 / 6) * 12) == 11
        assert quota[[0, 1, 2, 4, 5]].tolist() == [others] * 5  # 5, and by the ceiling a hair more


def test_the_order_of_frames_does_not_matter() -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = video(TOKENS.features.unflatten(0, (5, 12))[order].flatten(0, 1), 12)
    for strategy in (VidCom2(), VidCom2(follow="paper")):
        quota = strategy.quota(TOKENS)
        assert strategy.quota(moved).tolist() == quota[order].tolist()
        one, two = strategy.compress(TOKENS, quota), strategy.compress(moved, quota[order])
        assert [two.slot[two.frame == place].tolist() for place in range(5)] == [
            one.slot[one.frame == frame].tolist() for frame in order.tolist()
        ]


def test_the_total_is_near_what_was_asked_for() -> None:
    for keep in (0.1, 0.25, 0.45):
        quota = VidCom2(keep=keep).quota(TOKENS)
        assert abs(int(quota.sum()) - keep * len(TOKENS)) <= 2.5
    for strategy in (VidCom2(keep=1.0), VidCom2(keep=1.0, follow="paper")):
        assert strategy.quota(TOKENS).tolist() == [12] * 5
    assert VidCom2(keep=0.0).quota(TOKENS).tolist() == [1] * 5
    assert VidCom2(keep=0.0, follow="paper").quota(TOKENS).tolist() == [0] * 5


def test_equal_scores_go_to_the_lower_index() -> None:
    """One channel has no quieter half: nothing tells tokens apart."""
    tokens = video(draws(66, 20, 1), 5)
    strategy = VidCom2(keep=0.4)
    kept = strategy.compress(tokens, strategy.quota(tokens))
    assert kept.slot.tolist() == [0, 1] * 4
    equal = likeness(tokens.features, tokens.counts, "released")
    assert bool((equal.video == 5).all())


def test_zeros_and_nothing_at_all() -> None:
    zeros = video(torch.zeros(8, 6), 4)
    for follow in ("paper", "released"):
        strategy = VidCom2(keep=0.5, follow=follow)
        assert strategy.quota(zeros).tolist() == [2, 2]
        nothing = zeros[torch.arange(0)]
        assert strategy.quota(nothing).tolist() == [0, 0]
        assert len(strategy.compress(nothing, torch.tensor([0, 0]))) == 0


@pytest.mark.parametrize("follow", ["paper", "released"])
def test_any_temperature(follow: Any) -> None:
    """The coldest gives one frame all of the extra share, the hottest each frame the same."""
    cold = VidCom2(keep=0.5, temperature=2.2e-311, follow=follow).quota(TOKENS)
    assert sorted(cold.tolist()) == [5, 5, 5, 5, 11]
    hot = VidCom2(keep=0.5, temperature=math.inf, follow=follow).quota(TOKENS)
    assert hot.tolist() == [6] * 5


def test_what_it_refuses() -> None:
    with pytest.raises(StrategyError, match=r"vidcom2.temperature=0.0 .* write a number above 0"):
        VidCom2(temperature=0.0)
    with pytest.raises(ValueError, match=r"vidcom2.keep=1.5 is not a fraction"):
        VidCom2(keep=1.5)
