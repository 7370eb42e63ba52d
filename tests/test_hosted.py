"""Numbers that the host knows are those of the tensor, and are forgotten when it is written."""

from __future__ import annotations

import copy

import torch

from tokenprune import hosted
from tokenprune.bench.dispatch import Dispatched

HOST = torch.device("cpu")


def test_what_was_sent_is_known_and_nothing_is_read() -> None:
    with Dispatched() as counted:
        sent = hosted.sent([3, 0, 5], HOST)
        assert hosted.numbers(sent) == (3, 0, 5)
    assert counted.number("reads") == 0
    assert sent.tolist() == [3, 0, 5]


def test_what_is_made_once_is_made_anew_after_a_write_and_by_somebody_else() -> None:
    asked: list[int] = []

    def made(number: int) -> int:
        asked.append(number)
        return number + 1

    tensor = torch.zeros(3)
    assert [hosted.once(tensor, made, 1), hosted.once(tensor, made, 1)] == [2, 2]
    assert asked == [1]
    assert hosted.once(tensor, abs, -4) == 4
    assert hosted.once(tensor, made, 5) == 6
    tensor.add_(1)
    assert hosted.once(tensor, made, 7) == 8


def test_anything_else_is_read_once() -> None:
    made = torch.tensor([3, 0, 5])
    assert hosted.known(made) is None
    with Dispatched() as counted:
        assert hosted.numbers(made) == hosted.numbers(made) == (3, 0, 5)
    assert counted.number("reads") == 1


def test_a_write_is_noticed_and_results_are_not_taken_for_it() -> None:
    sent = hosted.sent([3, 0, 5], HOST)
    assert hosted.known(sent + 1) is None
    sent[1] = 7
    assert hosted.known(sent) is None
    assert hosted.numbers(sent) == (3, 7, 5)
    again = hosted.sent([1], HOST)
    assert hosted.numbers(copy.deepcopy(again)) == (1,)


def test_inference_mode_knows_too() -> None:
    with torch.inference_mode():
        assert hosted.numbers(hosted.sent([2], HOST)) == (2,)


def test_counts_are_made_once_and_without_a_read() -> None:
    frame = torch.tensor([-1, 0, 0, 2, -2, 2, 2])
    with Dispatched() as counted:
        first = hosted.counts(frame, 4)
        assert hosted.counts(frame, 4) is first
    assert counted.number("reads") == 0
    assert first.tolist() == [2, 0, 3, 0]
    assert hosted.counts(frame, 3).tolist() == [2, 0, 3]
    frame[1] = 1
    assert hosted.counts(frame, 3).tolist() == [1, 1, 3]


def test_noted_counts_are_known() -> None:
    frame = hosted.note_counts(torch.tensor([0, 0, 2]), [2, 0, 1])
    assert hosted.known(hosted.counts(frame, 3)) == (2, 0, 1)


def test_totals_are_noted_summed_or_read() -> None:
    with Dispatched() as counted:
        assert hosted.total(hosted.note_total(torch.tensor([1, 2]), 3)) == 3
        assert hosted.total(hosted.sent([4, 5], HOST)) == 9
        frame = hosted.note_rows(torch.tensor([-1, 0, 0, 2]), 3)
        assert hosted.total(hosted.counts(frame, 3)) == 3
    assert counted.number("reads") == 0
    assert hosted.total(torch.tensor([4, 6])) == 10
