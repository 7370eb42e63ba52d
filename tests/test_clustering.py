"""Density peaks beside a loop that follows their definition, and segments of frames."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import hosted, merging, scenes
from tokenprune.bench import toy
from tokenprune.bench.dispatch import Dispatched
from tokenprune.clustering import density_peaks, leaders


def by_definition(x: Tensor, c: int, k: int) -> tuple[list[int], list[int]]:
    """Centres and members of one group, token by token, in double precision."""
    n, x = len(x), x.double()
    distance = torch.stack([(x - row).norm(dim=-1) for row in x]) / x.shape[1] ** 0.5
    rho = [float((-row.sort().values[:k].square().mean()).exp().float()) for row in distance]
    delta = []
    for i in range(n):
        denser = [j for j in range(n) if rho[j] > rho[i] or (rho[j] == rho[i] and j < i)]
        delta.append(float(distance[i, denser].min() if denser else distance.max()))
    score = [a * b for a, b in zip(rho, delta, strict=True)]
    centre = sorted(range(n), key=lambda i: (-score[i], i))[:c]
    member = [
        centre.index(i) if i in centre else int(distance[i, centre].argmin()) for i in range(n)
    ]
    return centre, member


@pytest.mark.parametrize("seed", range(8))
def test_density_peaks_are_those_of_the_definition(seed: int) -> None:
    """Groups of different sizes, also of one token and of none, in one call; noise as padding."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [0, 1, 2, 5, 9, 14, 30]
    centres, neighbours = [0, 1, 1, 2, 0, 6, 7], [7, 1, 2, 2, 3, 4, 7]
    features = 50 + torch.randn(len(sizes), 30, 16, generator=generator)
    valid = torch.arange(30) < torch.tensor(sizes).unsqueeze(-1)
    found = density_peaks(features, valid, torch.tensor(centres), torch.tensor(neighbours))
    for row, (n, c, k) in enumerate(zip(sizes, centres, neighbours, strict=True)):
        member = found.member[row]
        assert (member[n:] == -1).all()
        if not c:
            assert (member == -1).all()
            continue
        centre, joined = by_definition(features[row, :n], c, k)
        assert found.real[row].sum() == c
        assert found.centre[row, :c].tolist() == centre
        assert member[:n].tolist() == joined


def test_centres_in_the_order_of_their_places() -> None:
    features = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(20) < torch.tensor([[20], [11], [4]])
    number = torch.tensor([6, 2, 3])
    score = density_peaks(features, valid, number, 4)
    place = density_peaks(features, valid, number, 4, order="place")
    assert torch.equal(score.real, place.real)
    for row, real in enumerate(score.real):
        by_score, by_place = score.centre[row, real], place.centre[row, real]
        assert torch.equal(by_place, by_score.sort().values)
        inside = valid[row]
        assert torch.equal(by_place[place.member[row, inside]], by_score[score.member[row, inside]])


def test_whoever_knows_the_sizes_gets_the_same_with_fewer_launches() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 20, 4, generator=generator)
    valid = torch.rand(3, 20, generator=generator) < torch.tensor([[1.1], [0.6], [0.3]])
    number, sizes = torch.tensor([6, 2, 1]), hosted.sent(valid.sum(-1).tolist(), valid.device)
    with Dispatched() as asking:
        without = density_peaks(features, valid, number, 4, "place")
    with Dispatched() as knowing:
        found = density_peaks(features, valid, number, 4, "place", sizes)
    assert torch.equal(found.real, without.real)
    assert torch.equal(found.centre[found.real], without.centre[found.real])
    assert torch.equal(found.member, without.member)
    assert knowing.number("operations") < asking.number("operations")
    assert knowing.number("reads") == 0


def test_a_call_for_whole_groups_is_few_launches() -> None:
    host = torch.device("cpu")
    features, number = torch.randn(3, 20, 4), hosted.sent([6, 6, 6], host)
    whole = hosted.everything(hosted.sent([20, 20, 20], host), 20)
    with Dispatched() as counted:
        density_peaks(features, whole, number, 4)
    assert counted.number("reads") == 0
    assert counted.number("operations") <= 35 or not toy.COMPARABLE


@pytest.mark.parametrize("k", [1, 2])
def test_equal_densities_leave_the_lower_index_first(k: int) -> None:
    """With one neighbour all are equally dense, with two each pair of nearest neighbours is."""
    x = torch.tensor([[0.0, 0.1], [0.3, 0.1], [7.0, 0.7], [7.9, 0.7]])
    found = density_peaks(x.unsqueeze(0), torch.ones(1, 4, dtype=torch.bool), torch.tensor([2]), k)
    assert found.centre[0].tolist() == [0, 2]
    assert found.member[0].tolist() == [0, 0, 1, 1]


def test_of_equal_tokens_only_the_first_leads() -> None:
    x = torch.randn(1, 3, 896, generator=torch.Generator().manual_seed(1)).repeat(1, 4, 1)
    found = density_peaks(x, torch.ones(1, 12, dtype=torch.bool), torch.tensor([5]), 4)
    assert set(found.centre[0, :3].tolist()) == {0, 1, 2}  # the others have no distance
    assert found.centre[0, 3:].tolist() == [3, 4]  # and come in order
    first = found.centre[0, found.member[0]]
    lead = [token % 3 if token not in (3, 4) else token for token in range(12)]
    assert first.tolist() == lead


def test_numbers_are_cut_to_the_group() -> None:
    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1))
    found = density_peaks(x, torch.ones(1, 3, dtype=torch.bool), torch.tensor([9]), 9)
    assert found.centre.shape == (1, 3)
    assert sorted(found.centre[0].tolist()) == [0, 1, 2]
    none = torch.empty(0, dtype=torch.long)
    empty = density_peaks(x[:0], torch.ones(0, 3, dtype=torch.bool), none, 4)
    assert empty.member.shape == (0, 3)


def test_half_precision_and_gradients_come_in_and_the_input_stays() -> None:
    x = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(1)).bfloat16()
    before, valid, number = x.clone(), torch.ones(1, 9, dtype=torch.bool), torch.tensor([3])
    found = density_peaks(x.requires_grad_(), valid, number, 4)
    assert torch.equal(x, before)
    wide = density_peaks(before.float(), valid, number, 4)
    assert torch.equal(found.centre, wide.centre)
    assert torch.equal(found.member, wide.member)


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.9, 1.0]), max_size=9),
    st.sampled_from([-1.0, 0.5, 0.9, 2.0]),
    st.integers(1, 9),
)
def test_segments(similarity: list[float], threshold: float, least: int) -> None:
    below = {i for i, value in enumerate(similarity) if value < threshold}
    for i in sorted(range(len(similarity)), key=lambda i: (similarity[i], i)):
        if len(below) + 1 < least:
            below.add(i)
    expected, segment = [], 0
    for frame in range(len(similarity) + 1):
        expected.append(segment)
        segment += frame in below
    assert scenes.segment_of(torch.tensor(similarity), threshold, least).tolist() == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 2**31 - 1))
def test_leaders_are_the_rows_of_density_peaks(counts: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(counts), 3, generator=generator)
    number = [int(torch.randint(0, n + 1, (1,), generator=generator)) for n in counts]
    row, rank = leaders(x, torch.tensor(counts), torch.tensor(number), 2)
    found = zip(x.split(counts), row.split(counts), rank.split(counts), number, strict=True)
    start = 0
    for group, rows, ranks, c in found:
        if not len(rows) or c == 0:
            assert rows.tolist() == ranks.tolist() == [-1] * len(rows)
        else:
            full = torch.ones(1, len(rows), dtype=torch.bool)
            centre, _, member = density_peaks(group[None], full, torch.tensor([c]), 2)
            assert rows.tolist() == (centre[0][member[0]] + start).tolist()
            assert ranks.tolist() == member[0].tolist()
        start += len(rows)


@given(st.lists(st.integers(-1, 8), max_size=9), st.booleans())
def test_to_leaders(wanted: list[int], half: bool) -> None:
    """Whoever names one who does not lead himself leads here, so that any list is legal."""
    leads = [
        row if row == -1 or (row < len(wanted) and wanted[row] == row) else own
        for own, row in enumerate(wanted)
    ]
    x = torch.randn(len(leads), 2).to(torch.bfloat16 if half else torch.float32)
    own, lost = sum(map(int.__eq__, leads, range(len(leads)))), leads.count(-1)
    leader = torch.tensor(leads, dtype=torch.long)
    rows, members, means = merging.to_leaders(x, leader, own, lost)
    assert rows.tolist() == [own for own, row in enumerate(leads) if own == row]
    assert [-1 if m < 0 else int(rows[m]) for m in members] == leads
    assert means.dtype == torch.float32
    for row, value in zip(rows.tolist(), means, strict=True):
        inside = [own for own, leader in enumerate(leads) if leader == row]
        torch.testing.assert_close(value, x[inside].float().mean(0))


def test_gradients_go_to_all_who_follow() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    merging.to_leaders(x, torch.tensor([0, 0, -1]), 1, 1).means.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.5, 0.5], [0.5, 0.5], [0, 0]]
