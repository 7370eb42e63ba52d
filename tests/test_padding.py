"""Rows of frames of different sizes, padded and back, whether or not the host knows the sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenprune import hosted, ragged

SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=6) | st.integers(1, 6).map(
    lambda n: [3] * n
)


@given(SIZES, st.sampled_from([(), (3,), (2, 2)]), st.booleans(), st.integers(0, 2))
def test_there_and_back(sizes: list[int], width: tuple[int, ...], known: bool, more: int) -> None:
    counts, largest = torch.tensor(sizes), max(1, *sizes)
    if known:
        hosted.note(counts, sizes)
    values = torch.arange(1, 1 + sum(sizes)).view(-1, *[1] * len(width)).expand(-1, *width) * 1.0
    padded, valid = ragged.by_frame(values, counts)
    assert padded.shape == (len(sizes), largest, *width)
    for frame, own, there in zip(values.split(sizes), padded, valid, strict=True):
        assert torch.equal(own[: len(frame)], frame)
        assert not own[len(frame) :].any()
        assert there.tolist() == [place < len(frame) for place in range(largest)]
    assert torch.equal(ragged.by_row(padded, counts), values)

    for wide in (largest + more, largest + more, largest + more + 1):  # the second as it was made
        real = ragged.real(counts, wide)
        assert real.sum(-1).tolist() == sizes
        assert ragged.cells(counts, wide).tolist() == real.flatten().nonzero().flatten().tolist()


@pytest.mark.parametrize("known", [False, True])
def test_numbers_that_were_written_since_are_looked_at_again(known: bool) -> None:
    counts = torch.tensor([1, 2])
    if known:
        hosted.note(counts, (1, 2))
    assert ragged.cells(counts, 2).tolist() == [0, 2, 3]
    counts.add_(1)
    assert ragged.cells(counts, 3).tolist() == [0, 1, 3, 4, 5]
    counts.sub_(1)
    assert ragged.cells(counts, 3).tolist() == [0, 3, 4]


def test_sizes_of_which_only_the_sum_is_known_are_not_read() -> None:
    counts = hosted.note_total(torch.tensor([1, 0, 2]), 3)
    assert ragged.cells(counts, 2).tolist() == [0, 4, 5]
    assert ragged.real(counts, 2).tolist() == [[True, False], [False, False], [True, True]]
    assert hosted.known(counts) is None


def test_gradients_go_through() -> None:
    values = torch.ones(3, 2, requires_grad=True)
    padded, _ = ragged.by_frame(values, torch.tensor([1, 2]))
    (gradient,) = torch.autograd.grad(padded.sum(), values)
    assert torch.equal(gradient, torch.ones(3, 2))


def test_lists_go_together() -> None:
    parts = hosted.sent_together([[1, 2], [], [3]], torch.device("cpu"))
    assert [part.tolist() for part in parts] == [[1, 2], [], [3]]
    assert [hosted.known(part) for part in parts] == [(1, 2), (), (3,)]
