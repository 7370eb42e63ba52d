"""HoliTom's properties as its description lists them, and what we decided where it is silent."""

from __future__ import annotations

import itertools
import math
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import ops, standing
from tokenprune.absorbing import absorbed
from tokenprune.sequence import TEXT, Recorded, SequenceView, Survivors
from tokenprune.standing import Scene
from tokenprune.strategies.holitom import HoliTom
from tokenprune.strategy import Extent
from tokenprune.tokens import VisualTokens


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clip(seed: int, frames: int, cells: int, width: int = 8) -> VisualTokens:
    """A video whose cells change now and then, each in its own time."""
    new = torch.rand(frames, cells, generator=torch.Generator().manual_seed(seed)) < 0.2
    shown = new.long().cumsum(0)
    kinds = drawn(seed, frames + 1, cells, width)
    features = kinds.gather(0, shown.unsqueeze(-1).expand(-1, -1, width))
    noise = 0.05 * drawn(seed + 1, frames, cells, width)
    return video((features + noise).flatten(0, 1), cells, drawn(seed + 2, frames * cells).abs())


def saved_by(alive: Tensor, lengths: list[int]) -> int:
    """Rows saved by a partition; `alive` of every transition and cell."""
    start, saved = 0, 0
    for length in lengths:
        inside = alive[start : start + length - 1]
        saved += (length - 1) * int(inside.all(0).sum()) if length > 1 else 0
        start += length
    return saved


def partitions(frames: int) -> list[list[int]]:
    return [
        [len(list(run)) for _, run in itertools.groupby(itertools.accumulate((0, *cuts)))]
        for cuts in itertools.product((0, 1), repeat=frames - 1)
    ]


def found(grid: Tensor, longest: int = 9, similarity: float = 0.8) -> tuple[list[Scene], int]:
    """Scenes of whole frames."""
    return standing.scenes(standing.unchanged(grid, similarity).tolist(), longest)


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_scenes_save_most(frames: int, cells: int, longest: int, seed: int) -> None:
    grid = clip(seed, frames, cells).dense()
    scenes, saved = found(grid, longest)
    alive = ops.cosine(grid[1:], grid[:-1]) > 0.8
    lengths = [scene.frames for scene in scenes]
    assert [scene.first for scene in scenes] == [*itertools.accumulate([0, *lengths[:-1]])]
    assert saved == saved_by(alive, lengths)
    allowed = [lengths for lengths in partitions(frames) if max(lengths) <= longest]
    assert saved == max(saved_by(alive, lengths) for lengths in allowed)
    for first, length, static in scenes:
        same = alive[first : first + length - 1].all(0) & (length > 1)
        assert static == same.nonzero().squeeze(-1).tolist()


def test_of_equal_savings_the_last_scene_is_the_shortest() -> None:
    """Four frames, of which one cell stays in the first and in the last transition."""
    x = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]).unsqueeze(1)
    assert found(x) == ([Scene(0, 2, [0]), Scene(2, 2, [0])], 2)
    still = torch.ones(4, 1, 2)  # a pair twice saves less than all four
    assert found(still) == ([Scene(0, 4, [0])], 3)
    moving = torch.eye(4).unsqueeze(1)  # nothing saves anything: each alone
    assert found(moving) == ([Scene(frame, 1, []) for frame in range(4)], 0)


def test_scenes_are_no_longer_than_allowed() -> None:
    scenes, saved = found(torch.ones(5, 3, 2), 2)
    assert max(scene.frames for scene in scenes) == 2
    assert saved == 6


@given(arbitrary.visual_tokens())
def test_a_cell_without_a_token_does_not_stay(tokens: VisualTokens) -> None:
    same = standing.unchanged(tokens.dense(), -1.5)
    known, row = standing.known(same, tokens.frame, tokens.slot)
    place = (tokens.frame * tokens.cells + tokens.slot).tolist()
    assert [row[cell] for cell in place] == [*range(len(tokens))]
    assert sum(at < 0 for at in row) == tokens.frames * tokens.cells - len(tokens)
    there = torch.tensor([at >= 0 for at in row]).view(tokens.frames, tokens.cells)
    assert torch.equal(
        torch.tensor(known).bool().view(same.shape).cpu(), same.cpu() & there[1:] & there[:-1]
    )


def test_similarities_at_the_ends() -> None:
    """The cosine of nothing is 0, and none is above 1."""
    assert standing.unchanged(torch.zeros(2, 1, 4), -0.5).all()
    assert not standing.unchanged(torch.zeros(2, 1, 4), 0.0).any()
    assert not standing.unchanged(torch.ones(2, 1, 4), 1.0).any()
    assert standing.unchanged(torch.ones(2, 1, 4), 0.999).all()


@pytest.mark.parametrize("follow", ["paper", "released"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.25, 0.9, 1.0])
def test_what_is_kept(keep: float, follow: str) -> None:
    """Counts, addresses and values, worked out scene by scene."""
    tokens = clip(5, 9, 12)
    strategy = HoliTom(keep=keep, follow="released" if follow == "released" else "paper")
    out = strategy.condense(tokens)
    scenes, saved = found(tokens.dense(), strategy.window, strategy.similarity)
    ratio = min(keep / ((len(tokens) - saved) / len(tokens)), 1.0)
    counts, first = [], torch.zeros(9, dtype=torch.long)
    still = torch.zeros(9, 12, dtype=torch.bool)
    for start, frames, cells in scenes:
        first[start : start + frames] = start
        still[start : start + frames, cells] = True
        kept = math.ceil((12 - len(cells)) * ratio)
        counts += [kept + round(len(cells) * ratio), *[kept] * (frames - 1)]
    assert saved > 0
    assert out.counts.tolist() == counts
    moving = ~still[out.frame, out.slot]
    assert torch.equal(out.features[moving], tokens.dense()[out.frame, out.slot][moving])
    assert torch.equal(out.frame[~moving], first[out.frame[~moving]])
    if follow == "paper":
        assert torch.equal((out.frame * 12 + out.slot).sort().values, out.frame * 12 + out.slot)


def test_a_paper_token_is_the_mean_of_its_members() -> None:
    tokens = clip(5, 9, 12)
    out = HoliTom(keep=0.2).condense(tokens)
    assert out.members is not None
    assert out.members.shape == (len(tokens),)
    into = out.members
    assert int(torch.bincount(into[into >= 0]).max()) > 4
    for row in range(len(out)):
        mean = tokens.features[into == row].mean(0)
        torch.testing.assert_close(out.features[row], mean)


def test_released_members_are_those_of_the_paper_in_another_order() -> None:
    tokens = clip(5, 9, 12)
    paper, released = (HoliTom(keep=0.2, follow=f).condense(tokens) for f in ("paper", "released"))
    assert paper.members is not None
    assert released.members is not None
    went = paper.members >= 0
    assert torch.equal(went, released.members >= 0)
    there = paper.members[went], released.members[went]
    assert torch.equal(paper.frame[there[0]], released.frame[there[1]])
    assert torch.equal(paper.slot[there[0]], released.slot[there[1]])
    assert not torch.equal(paper.slot, released.slot)


def test_a_high_threshold_leaves_every_frame_alone() -> None:
    tokens = clip(3, 6, 16)
    out = HoliTom(keep=0.3, similarity=1.0).condense(tokens)
    salient = tokens.saliency
    assert salient is not None
    top = salient.view(6, 16).topk(5).indices.sort().values
    assert torch.equal(out.slot.view(6, 5), top)
    assert torch.equal(
        out.features, tokens.dense().gather(1, top.unsqueeze(-1).expand(-1, -1, 8)).flatten(0, 1)
    )


def test_identical_frames_are_one_scene_and_static() -> None:
    x = drawn(1, 1, 10, 8).repeat(5, 1, 1)
    out = HoliTom(keep=0.1).condense(video(x.flatten(0, 1), 10, torch.ones(50)))
    assert out.frame.tolist() == [0] * 5  # a fifth is left by averaging, of that a half
    every = HoliTom(keep=0.2).condense(video(x.flatten(0, 1), 10, torch.ones(50)))
    assert torch.equal(every.slot, torch.arange(10))
    torch.testing.assert_close(every.features, x[0])


def test_static_cells_vanish_where_their_share_rounds_to_none() -> None:
    x = drawn(1, 1, 4, 8).repeat(3, 1, 1)
    out = HoliTom(keep=0.04).condense(video(x.flatten(0, 1), 4, torch.ones(12)))
    assert len(out) == 0  # round(4 * 0.12) is 0, and no cell moves
    assert out.members is not None
    assert out.members.tolist() == [-1] * 12


def test_counts_are_ceilings_of_double_products() -> None:
    """49 of 196 cells at a quarter; where the product is a hair above a number, one more."""
    for keep, expected in [(0.25, 49), (0.2, 40), (0.15, 30), (0.1, 20)]:
        tokens = video(drawn(0, 196, 4), 196, torch.arange(196.0))
        assert len(HoliTom(keep=keep).condense(tokens)) == expected
    assert 50 * 0.14 > 7
    assert len(HoliTom(keep=0.14).condense(video(drawn(0, 50, 4), 50, torch.arange(50.0)))) == 8


def test_a_cell_that_a_frame_lost_is_not_static() -> None:
    x = drawn(1, 1, 4, 8).repeat(3, 1, 1)
    whole = video(x.flatten(0, 1), 4, torch.ones(12))
    tokens = whole[torch.arange(12) != 5]  # cell 1 of frame 1
    out = HoliTom(keep=1.0, similarity=-1.0).condense(tokens)
    assert out.counts.tolist() == [4, 0, 1]
    assert int(out.slot[-1]) == 1


@given(arbitrary.visual_tokens(), st.data())
def test_any_video(tokens: VisualTokens, data: st.DataObject) -> None:
    """Ragged ones, empty frames, ties and zeros."""
    strategy = data.draw(arbitrary.configured(HoliTom))
    out = strategy.condense(tokens)  # pyright: ignore[reportAttributeAccessIssue]
    assert (out.frames, out.cells) == (tokens.frames, tokens.cells)
    assert bool((out.frame.diff() >= 0).all())
    address, known = (t.frame * t.cells + t.slot for t in (out, tokens))
    assert len(address.unique()) == len(address)
    assert bool(torch.isin(address, known).all())
    assert bool((out.counts <= tokens.counts).all())
    assert bool(out.features.isfinite().all())
    if len(tokens):
        assert out.members is not None
        assert {*out.members.tolist()} - {-1} == {*range(len(out))}


def halved(hidden: Tensor, attention: Tensor, kept: list[int], halving: bool) -> Tensor:
    """The inner merging, row by row."""
    order = sorted(kept, key=lambda row: (-float(attention[row]), row))
    joined: dict[int, list[int]] = {row: [] for row in kept}
    for row in range(len(hidden)):
        if row not in kept:
            cosines = ops.cosine(hidden[row].expand(len(order), -1), hidden[order])
            joined[order[int(cosines.argmax())]].append(row)
    result = []
    for row in kept:
        value = hidden[row]
        if halving:
            for other in joined[row]:
                value = (value + hidden[other]) / 2
        else:
            value = hidden[[row, *joined[row]]].mean(0)
        result.append(value)
    return torch.stack(result)


@pytest.mark.parametrize("halving", [False, True])
@pytest.mark.parametrize("number", [1, 3, 20])
def test_rows_absorb_those_that_are_nearest(number: int, halving: bool) -> None:
    hidden, attention = drawn(1, 40, 6), drawn(2, 40)
    kept = drawn(3, 40).topk(number).indices
    kept = kept[attention[kept].argsort(descending=True)]
    expected = halved(hidden, attention, kept.tolist(), halving)
    torch.testing.assert_close(absorbed(hidden, kept, halving), expected)


def test_of_equal_rows_the_first_absorbs() -> None:
    hidden = torch.tensor([[1.0, 0], [2, 0], [3, 0], [0, 1]])
    kept = torch.tensor([1, 3, 0])
    assert absorbed(hidden, kept).tolist() == [[2.5, 0], [0, 1], [1, 0]]


def view_of(frame: Tensor, hidden: Tensor, attention: Tensor) -> SequenceView:
    return SequenceView(frame, torch.arange(len(frame)), attention, reading=Recorded(hidden))


def pruned(view: SequenceView, budget: list[int]) -> list[int]:
    out = HoliTom().prune(view, torch.tensor(budget))
    return (out.rows if isinstance(out, Survivors) else out.nonzero().squeeze(-1)).tolist()


FRAME = torch.tensor([TEXT, 0, 0, 0, 1, 1, 1, TEXT, TEXT])


def test_inside_the_language_model_text_stays_and_frames_are_one_pool() -> None:
    hidden, attention = drawn(1, 9, 4).bfloat16(), torch.tensor([0, 6, 1, 2, 0.5, 0.4, 5, 9, 9])
    view = view_of(FRAME, hidden, attention)
    quota = HoliTom().quota(view)
    assert quota.tolist() == [2, 1]
    out = HoliTom().prune(view, quota)
    assert isinstance(out, Survivors)
    assert out.rows.tolist() == [0, 1, 3, 6, 7, 8]
    assert out.hidden is not None
    assert out.hidden.dtype == torch.bfloat16
    assert torch.equal(out.hidden[[0, 4, 5]], hidden[[0, 7, 8]])
    merged = halved(hidden[1:7].float(), attention[1:7], [0, 2, 5], halving=False)
    assert torch.equal(out.hidden[1:4], merged.bfloat16())


def test_inside_the_language_model_a_budget_is_kept_by_frames() -> None:
    view = view_of(FRAME, drawn(1, 9, 4), torch.tensor([0, 6, 1, 2, 0.5, 0.4, 5, 9, 9]))
    assert pruned(view, [0, 2]) == [0, 4, 6, 7, 8]


def test_inside_the_language_model_nothing_is_read_where_nothing_merges() -> None:
    silent = SequenceView(FRAME, torch.arange(9))
    assert HoliTom(drop=0.0).quota(silent).tolist() == [3, 3]
    assert pruned(silent, [3, 3]) == [*range(9)]
    attended = SequenceView(FRAME, torch.arange(9), torch.rand(9))
    assert HoliTom(drop=1.0).quota(attended).tolist() == [0, 0]
    assert pruned(attended, [0, 0]) == [0, 7, 8]


@pytest.mark.parametrize(("depth", "share"), [(28, 1 - 5 / 28), (18, 1.0), (4, 1.0)])
def test_retaining(depth: int, share: float) -> None:
    """A mean over layers; what the inner stage does not leave room for, it does not drop."""
    for ratio in (0.1, share):
        adjusted = HoliTom().retaining(ratio, Extent(32, 196, depth))
        assert (adjusted.keep, adjusted.drop) == (pytest.approx(ratio / share), 0.5)
    adjusted = HoliTom().retaining(0.9, Extent(32, 196, 28))
    assert (adjusted.keep, adjusted.drop) == (pytest.approx(1.0), pytest.approx(0.1 * 28 / 10))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": 1.5}, "holitom.keep=1.5 is not a fraction"),
        ({"beta": -0.1}, "holitom.beta=-0.1 is not a fraction"),
        ({"drop": 2.0}, "holitom.drop=2.0 is not a fraction"),
        ({"neighbours": 0}, "holitom.neighbours and holitom.window count: write 1 or more"),
        ({"window": 0}, "holitom.neighbours and holitom.window count: write 1 or more"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        HoliTom(**options)
