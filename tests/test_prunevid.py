"""PruneVid beyond the golden cases: scenes, static cells, clusters and the question, by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import Extent, hosted, ops
from tokenprune.clustering import density_peaks
from tokenprune.errors import StrategyError
from tokenprune.sequence import Recorded
from tokenprune.strategies.prunevid import PruneVid, best_of_groups
from tokenprune.tokens import TEXT, SequenceView, VisualTokens
from tokenprune.windows import refined


def random_video(frames: int, cells: int, seed: int = 0, width: int = 8) -> VisualTokens:
    generator = torch.Generator().manual_seed(seed)
    return video(torch.randn(frames * cells, width, generator=generator), cells)


def refined_by_hand(labels: list[int]) -> list[int]:
    """The rule of the paper's code as a text has it, frame by frame."""
    frames = len(labels)
    runs, start = [], 0
    for end in range(1, frames + 1):
        if end == frames or labels[end] != labels[start]:
            runs.append((start, end))
            start = end
    found: list[int | None] = [None] * frames
    for start, end in runs:
        lengths = [b - a for a, b in runs if labels[a] == labels[start]]
        if end - start == max(lengths) > 1:
            found[start:end] = labels[start:end]
    while None in found:
        start = found.index(None)
        end = next((f for f in range(start, frames) if found[f] is not None), frames)
        left = right = 0
        while start - left > 0 and found[start - left - 1] == found[start - 1]:
            left += 1
        while end + right < frames and found[end + right] == found[end]:
            right += 1
        label = 0 if left == right == 0 else found[start - 1] if left >= right else found[end]
        found[start:end] = [label] * (end - start)
    return [label for label in found if label is not None]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=24))
def test_scenes_are_consecutive(labels: list[int]) -> None:
    scenes = refined(labels)
    assert [label for label, length in scenes for _ in range(length)] == refined_by_hand(labels)
    assert sum(length for _, length in scenes) == len(labels)
    assert all(length >= min(2, len(labels)) for _, length in scenes)
    assert all(a[0] != b[0] for a, b in pairwise(scenes))


def by_hand(strategy: PruneVid, tokens: VisualTokens) -> list[tuple[int, list[int], Tensor]]:
    """Of every row of the result the token whose address it has, all tokens in it, and its value,
    in the order of the result.
    """
    x, frames = tokens.features.double(), tokens.frames
    paper = strategy.follow == "paper"
    at = {
        (f, s): i
        for i, (f, s) in enumerate(zip(tokens.frame.tolist(), tokens.slot.tolist(), strict=True))
    }
    rows = [(tokens.frame == f).nonzero().flatten().tolist() for f in range(frames)]
    mean = torch.stack([x[r].mean(0) if r else x.new_zeros(x.shape[1]) for r in rows]).float()
    full = torch.ones(1, frames, dtype=torch.bool)
    number = torch.tensor([max(1, int(frames * strategy.scenes))])
    labels = refined_by_hand(density_peaks(mean[None], full, number, 7).member[0].tolist())
    starts = [f for f in range(frames) if f == 0 or labels[f] != labels[f - 1]]

    result: list[tuple[int, list[int], Tensor]] = []
    for start, end in zip(starts, [*starts[1:], frames], strict=True):
        inside, static = range(start, end), []
        for cell in range(tokens.cells):
            if len(inside) < 2 or any((f, cell) not in at for f in inside):
                continue
            same = [x[at[f, cell]] for f in inside]
            cosines = [
                float(torch.cosine_similarity(a, b, dim=0, eps=1e-12))
                for a in same
                for b in same
                if a is not b
            ]
            average = sum(cosines) / len(cosines)
            if average >= strategy.similarity if paper else average > strategy.similarity:
                static.append([at[f, cell] for f in inside])
        gone = {i for members in static for i in members}
        static.sort()
        groups = [static, *([[i] for i in rows[f] if i not in gone] for f in inside)]
        for group in groups:
            result += clustered(strategy, x, group)
    return sorted(result, key=lambda row: row[0]) if paper else result


def clustered(
    strategy: PruneVid, x: Tensor, group: list[list[int]]
) -> list[tuple[int, list[int], Tensor]]:
    values = [x[members].mean(0) for members in group]
    if len(group) <= 14:
        return [(m[0], m, value) for m, value in zip(group, values, strict=True)]
    number = torch.tensor([max(1, int(len(group) * strategy.clusters))])
    every = torch.ones(1, len(group), dtype=torch.bool)
    found = density_peaks(torch.stack(values).float()[None], every, number, 7)
    rows = []
    for column, centre in enumerate(found.centre[0].tolist()):
        inside = (found.member[0] == column).nonzero().flatten().tolist()
        tokens = sorted(i for unit in inside for i in group[unit])
        rows.append((group[centre][0], tokens, torch.stack([values[u] for u in inside]).mean(0)))
    return rows


@given(st.data(), st.sampled_from(["paper", "released"]))
def test_ragged_videos_by_hand(data: st.DataObject, follow: Any) -> None:
    """Frames that lost tokens, empty ones, one or many: all of it, token by token."""
    frames, cells = data.draw(st.integers(1, 12)), data.draw(st.sampled_from([1, 5, 16, 25, 36]))
    frame, slot = data.draw(arbitrary.frame_slots(frames, cells))
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    base = torch.randn(cells, 6, generator=generator)  # cells that move more or less
    pace = torch.rand(cells, generator=generator).mul(2).square()[slot].unsqueeze(-1)
    scene = torch.randn(1 + frames // 4, 6, generator=generator)[frame // 4]
    features = base[slot] + scene + pace * torch.randn(len(slot), 6, generator=generator)
    tokens = VisualTokens(features, None, None, frame, slot, frames, cells)
    strategy = PruneVid(
        similarity=data.draw(st.sampled_from([0.0, 0.5, 0.8])),
        scenes=data.draw(arbitrary.fractions),
        clusters=data.draw(arbitrary.fractions),
        follow=follow,
    )
    kept = strategy.condense(tokens)
    expected = by_hand(strategy, tokens)
    assert kept.frame.tolist() == [int(frame[row]) for row, _, _ in expected]
    assert kept.slot.tolist() == [int(slot[row]) for row, _, _ in expected]
    noted = hosted.numbers(kept.counts)
    assert [*noted] == torch.bincount(kept.frame, minlength=frames).tolist()
    members = kept.members
    assert members is not None
    assert [(members == k).nonzero().flatten().tolist() for k in range(len(kept))] == [
        inside for _, inside, _ in expected
    ]
    if expected:
        values = torch.stack([value for _, _, value in expected]).float()
        torch.testing.assert_close(kept.features, values, rtol=1e-4, atol=1e-5)


def test_frames_that_stay_the_same_are_static() -> None:
    one = random_video(1, 12)
    tokens = video(one.features.repeat(9, 1), 12)
    kept = PruneVid().condense(tokens)
    assert kept.counts.tolist() == [12] + [0] * 8
    torch.testing.assert_close(kept.features, one.features)
    assert kept.members is not None
    assert kept.members.tolist() == list(range(12)) * 9


@pytest.mark.parametrize("follow", ["paper", "released"])
def test_all_clusters_of_a_group_are_its_tokens(follow: Any) -> None:
    tokens = random_video(5, 20)
    kept = PruneVid(clusters=1.0, follow=follow).condense(tokens)
    assert len(kept) == len(tokens)
    address = kept.frame * 20 + kept.slot
    assert torch.equal(kept.features, tokens.features[address])
    assert torch.equal(address, torch.arange(100)) == (follow == "paper")


def test_a_video_of_one_frame_has_nothing_static() -> None:
    kept = PruneVid(similarity=0.0).condense(random_video(1, 30))
    assert len(kept) == 15


def question(seed: int = 0) -> SequenceView:
    """3 rows of text, 10 visual rows in 3 frames, a newline of the video, 4 rows of question."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.tensor([TEXT] * 3 + [0, 0, 0, 0, 1, 1, 1, 2, 2, 2] + [TEXT] * 5)
    slot = torch.tensor([0] * 3 + [0, 1, 2, 3, 0, 1, 2, 0, 1, 2] + [-1] + [0] * 4)
    queries, keys = torch.randn(18, 6, 4, generator=generator), torch.randn(18, 3, 4)
    reading = Recorded(keys=keys, queries=queries)
    return SequenceView(frame, torch.arange(18), slot=slot, reading=reading)


def test_the_question_chooses() -> None:
    """The largest attention of any head and any row behind the video's newline, by hand."""
    view = question()
    reading = view.reading
    assert isinstance(reading, Recorded)
    largest = torch.zeros(18)
    queries = reading._queries
    assert queries is not None
    for row in range(14, 18):
        for head in range(6):
            scores = (reading.keys[: row + 1, head // 2] @ queries[row, head]) / 2
            largest[: row + 1] = torch.maximum(largest[: row + 1], scores.softmax(0))
    strategy = PruneVid(keep=0.35)  # 4 of 10
    quota = strategy.quota(view)
    assert int(quota.sum()) == 4
    best = sorted(range(3, 13), key=lambda row: -float(largest[row]))[:4]
    kept = strategy.prune(view, quota)
    assert isinstance(kept, Tensor)
    assert kept.nonzero().flatten().tolist() == sorted([0, 1, 2, *best, *range(13, 18)])
    everything = strategy.prune(view, view.counts)
    assert isinstance(everything, Tensor)
    assert bool(everything.all())
    assert int(replace(strategy, keep=1.0).quota(view).sum()) == 10


def test_small_groups_vanish_in_the_released_selection() -> None:
    kept = best_of_groups(torch.tensor([5.0, 4, 3, 1, 2, 9]), torch.tensor([2, 0, 3, 1]), 0.4)
    assert kept.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("ratio", "clusters"), [(0.25, 0.407), (0.2, 0.325), (0.15, 0.244), (0.1, 0.163)]
)
def test_the_published_shares_of_clusters(ratio: float, clusters: float) -> None:
    strategy = PruneVid().retaining(ratio, Extent(32, 196, 28))
    assert strategy == replace(PruneVid(), clusters=strategy.clusters)
    assert strategy.clusters == pytest.approx(clusters, abs=1e-3)


def test_more_than_the_selection_leaves_raises_its_share() -> None:
    extent = Extent(8, 49, 28)
    strategy = PruneVid(similarity=1.0).retaining(0.8, extent)
    kept = len(strategy.condense(random_video(8, 49)))
    assert kept == 8 * 49
    mean = (10 * kept + 18 * ops.count(kept, strategy.keep, "up")) / 28
    assert mean / kept == pytest.approx(0.8, abs=1 / kept)


def test_small_frames_are_not_clustered() -> None:
    with pytest.raises(StrategyError, match=r"retains 61\.4% to 100\.0% here, not 50\.0%: it clus"):
        PruneVid().retaining(0.5, Extent(8, 14, 28))


def test_gradients_are_those_of_means() -> None:
    tokens = random_video(8, 20)
    features = (tokens.features + 1).requires_grad_()
    kept = PruneVid(similarity=0.3).condense(replace(tokens, features=features))
    kept.features.sum().backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad.sum(), torch.tensor(8.0 * len(kept)))
    assert bool((features.grad > 0).all())
