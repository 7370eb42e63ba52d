"""What the host makes of the similarity of frames is what the device would make of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenprune import ops, scenes
from tokenprune.bench.dispatch import Dispatched

SIMILAR = st.floats(-1, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0])


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e8])
@pytest.mark.parametrize("frames", [1, 2, 33])
def test_similarities_are_cosines(frames: int, scale: float) -> None:
    summary = torch.randn(frames, 50, generator=torch.Generator().manual_seed(frames)) * scale
    summary[4::7] = 0
    with Dispatched() as counted:
        found = scenes.similarities(summary)
    assert counted.number("reads") == 1
    # a processor's root may be off by the last bit
    assert found == pytest.approx(ops.cosine(summary[:-1], summary[1:]).tolist(), abs=2e-7)


def test_equal_frames_are_exactly_alike() -> None:
    of = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)).repeat_interleave(2, 0)
    assert scenes.similarities(of)[::2] == [1.0] * 200
    assert (
        scenes.similarities(-of.abs() * torch.tensor([1.0, -1.0]).repeat(200).unsqueeze(-1))[::2]
        == [-1.0] * 200
    )


def test_no_rounding_makes_a_cosine_of_more_than_one() -> None:
    of = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)).repeat_interleave(2, 0)
    found = scenes.similarities(of * torch.tensor([1.0, 1.1]).repeat(200).unsqueeze(-1))
    assert max(found) == 1.0


@given(st.lists(SIMILAR, max_size=12), st.floats(-1.5, 1.5), st.integers(1, 15))
def test_segments_are_cut_as_on_the_device(
    similarity: list[float], threshold: float, least: int
) -> None:
    of = scenes.segment_of(torch.tensor(similarity), threshold, least)
    assert scenes.segments(similarity, threshold, least) == of.bincount().tolist()


def test_a_threshold_is_compared_in_single_precision() -> None:
    (similar,) = torch.tensor([0.9]).tolist()
    assert similar < 0.9
    assert scenes.below([similar, similar - 1e-6], 0.9) == [False, True]


@pytest.mark.parametrize(("total", "parts"), [(0, 3), (7, 3), (9, 3), (2, 5)])
def test_shares_are_all_of_it_and_the_first_ones_the_larger(total: int, parts: int) -> None:
    shares = [scenes.share(total, parts, turn) for turn in range(parts)]
    assert sum(shares) == total
    assert shares == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] <= 1
