"""ToMe behind the tower, beside matchings written out one frame at a time."""

from __future__ import annotations

import pytest
import torch
from arbitrary import video

from tokenprune.bipartite import match, match_some
from tokenprune.strategies.tome_vision import ToMeVision, rounds
from tokenprune.tokens import VisualTokens


def test_frames_of_one_size_match_as_each_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(3, 11, 4, generator=draw)
    behind = [7, 11, 6]
    groups, owner = match_some(keys, [11, 11, 11], behind)
    for frame, left in enumerate(behind):
        alone = match(keys[frame : frame + 1], 11 - left)[0]
        assert torch.equal(groups[frame], alone)
        own = owner[frame, :left]
        assert torch.equal(alone[own], torch.arange(left))  # every group has the place of a member


def test_smaller_frames_match_as_without_padding() -> None:
    draw = torch.Generator().manual_seed(1)
    keys, sizes = torch.randn(4, 9, 4, generator=draw), [9, 4, 2, 1]
    behind = [5, 2, 1, 1]
    groups, _ = match_some(keys, sizes, behind)
    for frame, (size, left) in enumerate(zip(sizes, behind, strict=True)):
        if size > 1:
            alone = match(keys[frame : frame + 1, :size], size - left)[0]
            assert torch.equal(groups[frame, :size], alone)


def test_rounds_halve_at_most() -> None:
    plan = rounds([16, 9, 5, 0], [3, 9, 0, 0])
    assert [one.behind for one in plan] == [[8, 9, 3, 0], [4, 9, 2, 0], [3, 9, 1, 0]]


def tokens_of(cells: int) -> VisualTokens:
    draw = torch.Generator().manual_seed(2)
    features, keys = (torch.randn(3 * cells, width, generator=draw) for width in (5, 4))
    return video(features, cells, keys=keys)


@pytest.mark.parametrize("budget", [[4, 4, 4], [1, 12, 7], [0, 3, 12]])
def test_a_token_is_the_mean_of_its_members_and_has_the_cell_of_one(budget: list[int]) -> None:
    tokens = tokens_of(12)
    kept = ToMeVision().compress(tokens, torch.tensor(budget))
    assert kept.counts.tolist() == budget
    assert kept.members is not None
    for row in range(len(kept)):
        own = (kept.members == row).nonzero().squeeze(1)
        torch.testing.assert_close(kept.features[row], tokens.features[own].mean(0))
        cells = set(tokens.slot[own].tolist())
        assert int(kept.slot[row]) in cells
        assert {int(kept.frame[row])} == set(tokens.frame[own].tolist())
    dropped = tokens.frame[kept.members < 0].unique().tolist()
    assert dropped == [frame for frame, most in enumerate(budget) if not most]


def test_one_round_is_the_papers_matching() -> None:
    tokens = tokens_of(12)
    kept = ToMeVision().compress(tokens, torch.tensor([8, 8, 8]))
    assert tokens.keys is not None
    assert kept.members is not None
    groups = match(tokens.keys.unflatten(0, (3, 12)), 4)
    for frame in range(3):
        members = kept.members[12 * frame : 12 * frame + 12]
        together = members[:, None] == members
        assert torch.equal(together, groups[frame][:, None] == groups[frame])
        # in the order of their cells
        cells = kept.slot[kept.frame == frame]
        assert torch.equal(cells, cells.sort().values)
