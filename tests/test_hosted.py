"""Numbers that the host knows are those of the tensor, and are forgotten when it is written."""

from __future__ import annotations

import copy

import torch

from tokenprune import hosted, ops
from tokenprune.bench.dispatch import Dispatched

HOST = torch.device("cpu")


def test_what_was_sent_is_known_and_nothing_is_read() -> None:
    with Dispatched() as counted:
        sent = hosted.sent([3, 0, 5], HOST)
        assert hosted.numbers(sent) == (3, 0, 5)
    assert counted.number("reads") == 0
    assert sent.tolist() == [3, 0, 5]


def test_several_lists_are_sent_together_and_each_is_known() -> None:
    parts = [[3, 0, 5], [], [7]]
    with Dispatched() as counted:
        sent = hosted.sent_together(parts, HOST)
        assert [*map(hosted.numbers, sent)] == [(3, 0, 5), (), (7,)]
    assert counted.number("reads") == 0
    assert [one.tolist() for one in sent] == parts


def test_what_is_made_once_is_made_anew_after_a_write() -> None:
    asked: list[str] = []

    def made(what: str) -> str:
        asked.append(what)
        return what.upper()

    tensor = torch.zeros(3)
    for _ in range(2):
        assert hosted.once(tensor, "a", lambda: made("a")) == "A"
        assert hosted.once(tensor, "b", lambda: made("b")) == "B"
    assert asked == ["a", "b"]
    tensor.add_(1)
    assert hosted.once(tensor, "a", lambda: made("c")) == "C"


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


def test_noted_counts_become_a_tensor_once_somebody_asks() -> None:
    frame = torch.tensor([0, 0, 2])
    with Dispatched() as counted:
        hosted.note_counts(frame, [2, 0, 1])
        assert hosted.per_frame(frame, 3) == hosted.known_counts(frame, 3) == (2, 0, 1)
        assert hosted.known_counts(frame, 2) is None
    assert counted.number("operations") == 0
    assert hosted.counts(frame, 3) is hosted.counts(frame, 3)
    assert hosted.known_counts(frame, 3) == (2, 0, 1)
    hosted.note_counts(frame, own := torch.tensor([2, 0, 1]))
    assert hosted.known_counts(frame, 3) is None
    assert hosted.counts(frame, 3) is own
    assert hosted.per_frame(frame, 3) == (2, 0, 1)


def test_rows_of_a_mask_ascend_until_somebody_writes() -> None:
    rows = ops.marked(torch.tensor([True, False, True]), 2)
    assert hosted.ascends(rows)
    assert not hosted.ascends(rows.flip(0))
    rows[0] = 5
    assert not hosted.ascends(rows)


def test_masks_of_everything_are_made_once_and_anew_after_a_write() -> None:
    frame, counts = torch.tensor([0, 0, 2]), torch.tensor([2, 0, 1])
    for made in (lambda: hosted.whole(frame), lambda: hosted.everything(counts, 2)):
        mask = made()
        assert made() is mask
        assert hosted.all_true(mask)
        mask[0] = False
        assert not hosted.all_true(mask)
        assert bool(made().all())
    assert hosted.whole(frame).shape == (3,)
    assert hosted.everything(counts, 2).shape == (3, 2)
    assert hosted.everything(counts, 5).shape == (3, 5)
