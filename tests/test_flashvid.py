"""FlashVID beyond the golden cases: its budgets, its properties, and all of it by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import Extent, hosted, ops
from tokenprune.bench.dispatch import Dispatched
from tokenprune.clustering import leaders
from tokenprune.strategies.flashvid import FlashVID
from tokenprune.tokens import VisualTokens

ONE: dict[str, Any] = {"segments": None}  # segment


def random_video(frames: int, cells: int, seed: int = 0, width: int = 8) -> VisualTokens:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(frames * cells, width, generator=generator)
    return video(features, cells, torch.rand(len(features), generator=generator))


def still(frames: int, cells: int, seed: int = 0) -> VisualTokens:
    """The same frame again and again."""
    one = random_video(1, cells, seed)
    assert one.saliency is not None
    return video(one.features.repeat(frames, 1), cells, one.saliency.repeat(frames))


@pytest.mark.parametrize(
    ("keep", "entering", "inside"),
    [(0.25, 1984, 596), (0.20, 1568, 471), (0.15, 1184, 356), (0.10, 800, 240)],
)
def test_the_published_numbers(keep: float, entering: int, inside: int) -> None:
    """32 frames of 196: what enters layer 0 and what layer 20, before the rows of rounding up."""
    kept = FlashVID(keep=keep, **ONE).condense(random_video(32, 196, width=4))
    assert entering <= len(kept) <= entering + 32
    assert ops.count(entering, 0.3, "up") == inside
    mean = (20 * entering + 8 * inside) / 28 / (32 * 196)
    assert mean == pytest.approx(keep, abs=0.004)


@pytest.mark.parametrize("ratio", [0.1, 0.15, 0.25, 0.5])
def test_retaining_is_the_mean_over_layers(ratio: float) -> None:
    """As published `keep` is that mean; with other options it follows from them."""
    extent = Extent(8, 49, 28)
    assert FlashVID().retaining(ratio, extent).keep == pytest.approx(ratio)
    strategy = FlashVID(layer=7, inner=0.4, expansion=1.1, **ONE).retaining(ratio, extent)
    kept = len(strategy.condense(random_video(8, 49)))
    mean = (7 * kept + 21 * ops.count(kept, 0.4, "up")) / 28
    assert mean / (8 * 49) == pytest.approx(ratio, abs=2 / 49)


def test_retaining_more_than_the_inner_stage_leaves_raises_its_share() -> None:
    extent = Extent(8, 49, 28)
    strategy = FlashVID().retaining(0.9, extent)
    assert strategy.inner == pytest.approx(1 - 0.1 * 28 / 8)
    kept = len(strategy.condense(random_video(8, 49)))
    assert kept == 8 * 49
    assert (20 * kept + 8 * ops.count(kept, strategy.inner, "up")) / 28 == pytest.approx(
        0.9 * 8 * 49, abs=1
    )


@given(st.integers(1, 6), st.integers(2, 20), st.floats(0, 1), st.floats(0, 1), arbitrary.seeds)
def test_the_total_is_the_budget_and_at_most_one_more_per_frame(
    frames: int, cells: int, keep: float, alpha: float, seed: int
) -> None:
    strategy = FlashVID(keep=keep, alpha=alpha, similarity=0.3)
    budget = frames * ops.count(cells, keep, "up", 1.25)
    kept = strategy.condense(random_video(frames, cells, seed))
    assert budget <= len(kept) <= budget + frames


def test_frames_that_stay_the_same_become_the_first_of_them() -> None:
    tokens = still(frames=4, cells=25)
    strategy = FlashVID(keep=0.4, expansion=1.0, alpha=0.5, similarity=0.99, **ONE)
    kept = strategy.condense(tokens)  # ADTS takes 5 of each frame, trees leave 20 for 4 x 5
    assert kept.counts.tolist() == [25, 5, 5, 5]
    torch.testing.assert_close(kept.features[:25], tokens.features[:25])
    members = kept.members
    assert members is not None
    assert (
        torch.bincount(members).tolist()
        == [1 if slot in kept.slot[25:30].tolist() else 4 for slot in range(25)] + [1] * 15
    )


@pytest.mark.parametrize("frames", [2, 4, 8])
def test_the_released_value_of_a_tree_grows_with_its_length(frames: int) -> None:
    """A cell that never changes becomes half as many times its value as there are frames."""
    tokens = still(frames, cells=8)
    options: dict[str, Any] = {"expansion": 1.0, "alpha": 0.0, "similarity": 0.99, **ONE}
    paper = FlashVID(keep=1 / frames, **options)  # there is room for the 8 roots
    for strategy, times in ((paper, 1.0), (replace(paper, follow="released"), frames / 2)):
        kept = strategy.condense(tokens)
        assert kept.counts.tolist() == [8] + [0] * (frames - 1)
        torch.testing.assert_close(kept.features, times * tokens.features[:8])


def test_a_threshold_of_one_makes_no_trees() -> None:
    tokens = random_video(5, 12)
    strategy = FlashVID(keep=0.8, alpha=0.0, similarity=1.0, **ONE)
    kept = strategy.condense(tokens)
    assert len(kept) == len(tokens)
    assert torch.equal(kept.features, tokens.features)


def test_picks_are_untouched() -> None:
    tokens = random_video(6, 20)
    tokens = replace(tokens, features=tokens.features.to(torch.bfloat16))
    alone = FlashVID(keep=0.2, alpha=1.0, expansion=1.0).condense(tokens)
    every = FlashVID(keep=0.4, alpha=0.5, expansion=1.0).condense(tokens)
    address = alone.frame * 20 + alone.slot
    assert len(address) == 6 * 4
    assert torch.equal(alone.features, tokens.features[address])
    same = torch.isin(every.frame * 20 + every.slot, address)
    assert torch.equal(every.features[same], alone.features)
    assert len(FlashVID(keep=1.0, alpha=1.0).condense(tokens)) == len(tokens)


def test_segments_never_influence_each_other() -> None:
    """The second scene changes, where it begins does not."""
    cells, generator = 16, torch.Generator().manual_seed(1)
    scenes = torch.randn(2, 1, cells, 8, generator=generator) * 0.3
    scenes[0, ..., 0] += 3
    scenes[1, ..., 1] += 3
    features = (scenes + 0.1 * torch.randn(2, 3, cells, 8, generator=generator)).flatten(0, 2)
    strategy = FlashVID(keep=0.4, segments=2, similarity=0.7)
    saliency = torch.rand(6 * cells, generator=generator)
    one = strategy.condense(video(features, cells, saliency))
    features = features.clone()
    features[3 * cells :] += 0.2 * torch.randn(3 * cells, 8, generator=generator)
    two = strategy.condense(video(features, cells, saliency))
    first, again = one.frame < 3, two.frame < 3
    assert torch.equal(one.features[first], two.features[again])
    assert torch.equal(one.slot[first], two.slot[again])
    assert not torch.equal(one.features[~first], two.features[~again])
    assert one.members is not None
    assert int(one.members[: 3 * cells].max()) == int(first.sum()) - 1


def by_hand(strategy: FlashVID, tokens: VisualTokens) -> tuple[list[int], list[int], list[Tensor]]:
    """The method as written, token by token: rows, where each token went, and values."""
    saliency = tokens.saliency
    assert saliency is not None
    x, frames = tokens.features.double(), tokens.frames
    rows = [(tokens.frame == f).nonzero().flatten().tolist() for f in range(frames)]
    mean = [x[r].mean(0) if r else x.new_zeros(x.shape[1]) for r in rows]

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(a @ b) / max(float(a.norm() * b.norm()), 1e-30)

    # segments
    steps = [cosine(mean[f], mean[f + 1]) for f in range(frames - 1)]
    wanted = min(strategy.segments or 1, frames) - 1
    order = sorted(range(frames - 1), key=lambda f: steps[f])
    below = [f for f in order if steps[f] < strategy.transition]
    cuts = (below if len(below) > wanted else order[:wanted]) if strategy.segments else []
    segment = [sum(cut < f for cut in cuts) for f in range(frames)]

    # picks
    budget = [min(len(r), math.ceil(len(r) * strategy.keep * strategy.expansion)) for r in rows]
    chosen = [math.ceil(b * strategy.alpha) for b in budget]
    picked: set[int] = set()
    for f, own in enumerate(rows):
        whole = sum(m for m, s in zip(mean, segment, strict=True) if s == segment[f])
        weight = {j: float(saliency[j]) for j in own}
        if strategy.relevance:
            weight = {j: w * float(x[j] @ whole) for j, w in weight.items()}
        far = {(i, j): (1 - cosine(x[i], x[j])) * weight[j] for i in own for j in own}
        before: list[int] = []
        while len(before) < chosen[f]:
            others = before or own
            worth = {
                j: min((far[i, j] for i in others if i != j), default=math.inf)
                for j in own
                if j not in before
            }
            before.append(max(worth, key=lambda j: worth[j]))
        picked |= set(before)

    # trees
    parent = {i: i for i in range(len(tokens))}
    for s in set(segment):
        inside = [f for f in range(frames) if segment[f] == s]
        best: dict[int, tuple[float, int]] = {}
        for f in inside[1:]:
            free = [i for i in rows[f - 1] if i not in picked]
            for j in rows[f]:
                if j not in picked and free:
                    near = max(free, key=lambda i: cosine(x[i], x[j]))
                    best[j] = cosine(x[near], x[j]), near
        links = {j for j, (value, _) in best.items() if value >= strategy.similarity}
        total, least = sum(len(rows[f]) for f in inside), sum(budget[f] for f in inside)
        if total - len(links) < least:
            values = sorted((v for v, _ in best.values()), reverse=True)
            values += [-1.0] * (total - len(values))
            bar = max(values[total - least - 1], -1 + 1e-6) if total > least else math.inf
            links = {j for j, (value, _) in best.items() if value > bar}
        parent |= {j: best[j][1] for j in links}
    root: dict[int, int] = {}
    for j in sorted(parent):
        root[j] = j if parent[j] == j else root[parent[j]]
    tree = {r: [j for j in root if root[j] == r] for r in root.values()}
    value: dict[int, Tensor] = {}
    for r, members in tree.items():
        children = sum(parent[j] == r for j in members if j != r)
        divisor = len(members) if strategy.follow == "paper" else 1 + children
        value[r] = x[members].sum(0) / divisor

    # clusters
    target = {r: r for r in tree if r in picked}
    for s in set(segment):
        inside = [f for f in range(frames) if segment[f] == s]
        roots = {f: [r for r in rows[f] if r in tree and r not in picked] for f in inside}
        every = sum(map(len, roots.values()))
        share = min(1.0, sum(budget[f] - chosen[f] for f in inside) / max(1, every))
        for own in roots.values():
            if not own:
                continue
            c = torch.tensor([math.ceil(len(own) * share)])
            group = torch.stack([value[r] for r in own]).float()
            found, _ = leaders(group, torch.tensor([len(own)]), c, c.clamp(max=7))
            target |= {
                r: own[i] if i >= 0 else -1 for r, i in zip(own, found.tolist(), strict=True)
            }
    kept = sorted({t for t in target.values() if t >= 0})
    went = [kept.index(t) if (t := target[root[j]]) >= 0 else -1 for j in range(len(tokens))]
    out = [torch.stack([value[r] for r in target if target[r] == k]).mean(0) for k in kept]
    return kept, went, out


@given(arbitrary.visual_tokens(), st.sampled_from(["paper", "released"]), st.data())
def test_ragged_videos_by_hand(tokens: VisualTokens, follow: Any, data: st.DataObject) -> None:
    """Frames that lost tokens, empty ones, few and many: all of it, token by token."""
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    features = torch.randn(len(tokens), 6, generator=generator)  # no ties
    features += data.draw(st.sampled_from([0.0, 1.0]))
    saliency = torch.rand(len(tokens), generator=generator)
    tokens = replace(
        tokens,
        features=features.to(tokens.features.device),
        saliency=saliency.to(tokens.features.device),
        text=None,
    )
    strategy = FlashVID(
        keep=data.draw(arbitrary.fractions),
        expansion=data.draw(st.sampled_from([1.0, 1.25])),
        alpha=data.draw(arbitrary.fractions),
        similarity=data.draw(st.sampled_from([0.2, 0.5, 0.8])),
        segments=data.draw(st.sampled_from([None, 1, 3])),
        transition=0.3,
        relevance=data.draw(st.booleans()),
        follow=follow,
    )
    kept = strategy.condense(tokens)
    rows, members, values = by_hand(strategy, tokens)
    assert kept.frame.tolist() == tokens.frame[rows].tolist()
    assert kept.slot.tolist() == tokens.slot[rows].tolist()
    if kept.members is None:  # nothing was merged
        assert members == [rows.index(j) if j in rows else -1 for j in range(len(tokens))]
    else:
        assert kept.members.tolist() == members
    if rows:
        torch.testing.assert_close(kept.features, torch.stack(values).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("alpha", "reads"), [(0.7, 1), (0.0, 1), (1.0, 0)])
def test_what_is_left_of_trees_is_read_once(alpha: float, reads: int) -> None:
    """And nothing where there is no room for them."""
    tokens = random_video(8, 49)
    hosted.numbers(tokens.counts)
    with torch.no_grad(), Dispatched() as counted:
        kept = FlashVID(keep=0.3, alpha=alpha).condense(tokens)
        assert hosted.known(kept.counts) is not None
    assert counted.number("reads") == reads


def test_gradients_are_those_of_means() -> None:
    tokens = random_video(4, 9)
    features = tokens.features.clone().requires_grad_()
    kept = FlashVID(keep=0.3, similarity=0.2, **ONE).condense(replace(tokens, features=features))
    kept.features.sum().backward()
    assert features.grad is not None
    assert kept.members is not None
    went = (kept.members >= 0).float().unsqueeze(-1)
    assert float(features.grad.sum()) == pytest.approx(len(kept) * 8, rel=1e-5)
    assert torch.equal(features.grad != 0, (went > 0).expand_as(features))
