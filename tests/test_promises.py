"""What built-in stages promise is read where nobody waits; a broken promise names its stage."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from arbitrary import draws, video
from models import llava_onevision, prompt
from torch import Tensor

from tokenprune import attach, hosted
from tokenprune.bench.dispatch import Dispatched
from tokenprune.errors import StrategyError
from tokenprune.guards import masks, vision
from tokenprune.guards.promises import Promises
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.holitom import HoliTom
from tokenprune.strategies.prunevid import PruneVid
from tokenprune.strategies.uniform import Uniform
from tokenprune.tokens import TEXT, SequenceView, Survivors


def twice(tokens: Any) -> Any:
    return replace(tokens, slot=tokens.slot * 0)


def elsewhere(tokens: Any) -> Any:
    return replace(tokens, frame=tokens.frame.flip(0))


def infinite(tokens: Any) -> Any:
    return replace(tokens, features=tokens.features / 0)


def breaking(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, wrong: Any) -> None:
    """From here on a built-in strategy returns something else than it should."""
    right = getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda self, *given: wrong(right(self, *given)))


VISION = [
    (twice, "Uniform.compress returned slot 0 of frame 0 twice"),
    (elsewhere, "Uniform.compress returned frames"),
    (infinite, "Uniform.compress returned nan or inf at slot"),
]


@pytest.mark.parametrize(("wrong", "message"), VISION)
def test_a_broken_promise_ends_generation_at_the_next_token(
    monkeypatch: pytest.MonkeyPatch, wrong: Any, message: str
) -> None:
    breaking(monkeypatch, Uniform, "compress", wrong)
    model = llava_onevision()
    with pytest.raises(StrategyError, match=message), attach(model, "uniform"):
        model.generate(**prompt(), max_new_tokens=3, do_sample=False)


def again(tokens: Any) -> Any:
    return replace(tokens, slot=tokens.slot[torch.searchsorted(tokens.frame, tokens.frame)])


def beyond(tokens: Any) -> Any:
    return replace(tokens, slot=tokens.slot + tokens.cells)


def swapped(tokens: Any) -> Any:
    """Two tokens of different frames, and what goes with them, in each other's place."""
    row = torch.arange(len(tokens))
    row[0], row[-1] = len(tokens) - 1, 0
    members = None if tokens.members is None else row[tokens.members]
    return replace(tokens[row], members=members)


def bare(wrong: Any) -> Any:
    return lambda tokens: replace(wrong(tokens), members=None)


def others(tokens: Any) -> Any:
    return replace(tokens, members=tokens.members.roll(1))


def members_beyond(tokens: Any) -> Any:
    return replace(tokens, members=torch.where(tokens.members > 0, tokens.members, len(tokens)))


def dropped_twice(tokens: Any) -> Any:
    return replace(tokens, members=tokens.members.clamp(max=0) - 2)


CONDENSED = [
    (again, r"returned slot \d of frame 0 twice"),
    (bare(again), r"returned slot \d of frame 0 twice"),
    (beyond, r"returned slot \d+ of frame 0, which its input does not have"),
    (bare(beyond), r"returned slot \d+ of frame 0, which its input does not have"),
    (elsewhere, "returned frames"),
    (swapped, "returned frames"),
    (bare(swapped), "returned frames"),
    (infinite, "returned nan or inf at slot"),
    (bare(infinite), "returned nan or inf at slot"),
    (others, "returned members that name other tokens"),
    (members_beyond, "returned members that name other tokens"),
    (dropped_twice, "returned members that name other tokens"),
]


@pytest.mark.parametrize(("wrong", "message"), CONDENSED)
@pytest.mark.parametrize("pipeline", ["prunevid", "uniform+prunevid"])
def test_a_condenser_s_broken_promise(
    monkeypatch: pytest.MonkeyPatch, pipeline: str, wrong: Any, message: str
) -> None:
    """Also of one whose input does not have every cell."""
    breaking(monkeypatch, PruneVid, "condense", wrong)
    model = llava_onevision()
    with (
        pytest.raises(StrategyError, match=f"PruneVid.condense {message}"),
        attach(model, pipeline, {"prunevid.layer": 2}),
    ):
        model.generate(**prompt(), max_new_tokens=3, do_sample=False)


@pytest.mark.parametrize("named", [True, False])
def test_a_cell_that_a_stage_before_has_emptied(
    monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    def emptied(tokens: Any) -> Any:
        slot = tokens.slot.clone()
        slot[0] = 0
        return replace(tokens, slot=slot, members=tokens.members if named else None)

    breaking(monkeypatch, PruneVid, "condense", emptied)
    model = llava_onevision()
    said = "PruneVid.condense returned slot 0 of frame 0, which its input does not have"
    with (
        torch.no_grad(),
        pytest.raises(StrategyError, match=said),
        attach(model, "uniform+prunevid", {"prunevid.layer": 2}),
    ):
        model(**prompt())


def three_of_48() -> tuple[Any, Any]:
    """Tokens of three whole frames, and some of them with others merged in."""
    whole = video(draws(1, 48, 4), 16)
    hosted.note_counts(whole.frame, [16] * 3)
    hosted.note_grid(whole.slot)
    rows = torch.tensor([3, 5, 40])
    members = torch.full((48,), -1).index_copy(0, rows, torch.arange(3))
    return whole, replace(whole[rows], members=members)


def test_a_condenser_s_result_is_not_waited_for() -> None:
    """Of what it has noted nothing is read; else tokens per frame, once."""
    whole, after = three_of_48()

    def counted() -> tuple[int, int]:
        with Dispatched() as found:
            left = vision.condensed(PruneVid(), whole, after, Promises())
        assert left == ([16] * 3, [2, 0, 1], [2, 0, 1])
        return found.number("reads"), found.number("operations")

    assert counted() == (1, 14)
    hosted.note_counts(after.frame, [2, 0, 1])
    assert counted() == (0, 12)


def test_what_a_condenser_has_noted_is_a_promise() -> None:
    whole, after = three_of_48()
    promises = Promises()
    hosted.note_counts(after.frame, [1, 1, 1])
    vision.condensed(PruneVid(), whole, after, promises)
    promises.send()
    with pytest.raises(StrategyError, match=r"PruneVid.condense returned frames \[0, 0, 2\]"):
        promises.check()
    hosted.note_counts(after.frame, [17, 0, 0])  # which cannot be: the device is asked
    assert vision.condensed(PruneVid(), whole, after, Promises())[1] == [2, 0, 1]


@pytest.mark.parametrize("row", [-2, 3])
def test_a_token_that_went_names_a_row_or_none(row: int) -> None:
    """Also where those that are left name themselves."""
    whole, after = three_of_48()
    after.members[0] = row
    promises = Promises()
    vision.condensed(PruneVid(), whole, after, promises)
    promises.send()
    with pytest.raises(StrategyError, match=r"PruneVid.condense returned members that name other"):
        promises.check()


@pytest.mark.parametrize(("row", "slot"), [(1, 18), (2, -1)])
def test_a_slot_is_one_of_its_own_frame(row: int, slot: int) -> None:
    """Not another frame's, counted on or back, where nobody else is."""
    whole, after = three_of_48()
    after.slot[row] = slot
    promises = Promises()
    vision.condensed(PruneVid(), whole, replace(after, members=None), promises)
    promises.send()
    with pytest.raises(StrategyError, match=rf"slot {slot} of frame \d, which its input does not"):
        promises.check()


def one_pass(then: Any) -> None:
    """A prompt goes through a block, in which something happens next."""
    model = llava_onevision()
    with torch.no_grad(), attach(model, "uniform") as session:
        model(**prompt())
        then(session)


def test_a_report_is_not_shown_before_its_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, Uniform, "compress", twice)
    shown: list[Any] = []
    with pytest.raises(StrategyError, match="returned slot 0 of frame 0 twice"):
        one_pass(lambda session: shown.append(session.report))
    assert not shown


def test_the_end_of_the_block_looks_at_them(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, Uniform, "compress", twice)
    passed: list[Any] = []
    with pytest.raises(StrategyError, match="returned slot 0 of frame 0 twice"):
        one_pass(passed.append)
    assert passed, "a pass itself waits for nothing"


def test_the_next_prompt_lets_the_features_of_the_one_before_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where no token is generated in between."""
    made: list[Any] = []

    def noted(tokens: Any) -> Any:
        made.append(weakref.ref(tokens.features))
        return tokens

    breaking(monkeypatch, Uniform, "compress", noted)
    model = llava_onevision()
    with torch.no_grad(), attach(model, "uniform"):
        for _ in range(4):
            model(**prompt())
        gc.collect()
        assert [features() is None for features in made] == [True, True, True, False]


def test_the_next_prompt_raises_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, Uniform, "compress", twice)
    passed: list[Any] = []

    def another(session: Any) -> None:
        session._adapter.model(**prompt())
        passed.append(session)

    with pytest.raises(StrategyError, match="returned slot 0 of frame 0 twice"):
        one_pass(another)
    assert not passed


def test_an_error_within_the_block_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, Uniform, "compress", twice)
    with pytest.raises(KeyError, match="mine"):
        one_pass(lambda _: {}["mine"])


def fewer(mask: Tensor) -> Tensor:
    """Without the first word, and with a token more in its place."""
    wrong = mask.clone()
    wrong[0] = False
    wrong[(~mask).nonzero()[0]] = True
    return wrong


def more(mask: Tensor) -> Tensor:
    return mask | True


@pytest.mark.parametrize(
    ("wrong", "message"), [(fewer, "dropped 1 text rows"), (more, "kept 36 tokens where its")]
)
def test_a_stage_inside_the_model(
    monkeypatch: pytest.MonkeyPatch, wrong: Any, message: str
) -> None:
    breaking(monkeypatch, FastV, "prune", wrong)
    model = llava_onevision()
    with (
        torch.no_grad(),
        pytest.raises(StrategyError, match=f"FastV.prune {message}"),
        attach(model, "fastv", {"fastv.layer": 2}),
    ):
        model(**prompt())


def changed(change: Any) -> Any:
    """Survivors of other rows, which are said to ascend all the same."""

    def wrong(left: Any) -> Any:
        if not isinstance(left, Survivors):
            return left
        rows = left.rows.clone()
        change(rows)
        return Survivors(hosted.note_ascending(rows), left.hidden)

    return wrong


def without_a_word(rows: Tensor) -> None:
    """The last word before the video goes, and the first token comes that had not been kept."""
    kept = {*rows.tolist()} - {3}
    kept.add(next(row for row in range(4, len(kept) + 4) if row not in kept))
    rows.copy_(torch.tensor(sorted(kept)))


SURVIVORS = [
    (lambda rows: rows[-1:].add_(99), "returned rows that are not among the"),
    (lambda rows: rows[:1].sub_(99), "returned rows that are not among the"),
    (lambda rows: rows[5:6].copy_(rows[4]), "returned row .* twice"),
    (lambda rows: rows[:2].copy_(rows[:2].flip(0)), "moved text rows"),
    (lambda rows: rows[4:6].copy_(rows[4:6].flip(0)), "noted rows as ascending, which are not"),
    (without_a_word, "dropped 1 text rows"),
]


@pytest.mark.parametrize(("change", "message"), SURVIVORS)
def test_rows_that_a_stage_lists(
    monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    """Nothing is read in the pass; whatever rows they are, only those of the prompt are used."""
    breaking(monkeypatch, HoliTom, "prune", changed(change))
    model, passed = llava_onevision(), []
    options = {"holitom.layer": 2, "holitom.keep": 1.0, "holitom.drop": 0.5}
    with (
        torch.no_grad(),
        pytest.raises(StrategyError, match=f"HoliTom.prune {message}"),
        attach(model, "holitom", options),
    ):
        passed.append(model(**prompt()))
    assert passed


def test_rows_of_another_number_are_looked_at_at_once() -> None:
    view = SequenceView(torch.tensor([TEXT, 0, 0, 1, TEXT]), torch.arange(5))
    budget, promises = hosted.sent([1, 1], torch.device("cpu")), Promises()

    def left(*rows: int) -> Any:
        listed = Survivors(hosted.note_ascending(torch.tensor(rows)))
        return masks.survivors(HoliTom(), view, budget, listed, promises)

    with pytest.raises(StrategyError, match=r"HoliTom.prune dropped 1 text rows"):
        left(0, 1, 3)
    with pytest.raises(StrategyError, match=r"HoliTom.prune kept \[2, 1\] tokens per frame where"):
        left(0, 1, 2, 3, 4)
    kept = left(0, 1, 2, 4)  # the number is right, the frames are seen with a report
    promises.send()
    promises.check()
    with pytest.raises(StrategyError, match=r"HoliTom.prune kept \[2, 0\] tokens per frame where"):
        kept.counts()


def test_a_report_that_nobody_reads_keeps_nothing_of_a_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views: list[Any] = []
    right = FastV.prune

    def prune(self: FastV, view: Any, budget: Tensor) -> Any:
        views.append(weakref.ref(view))
        return right(self, view, budget)

    monkeypatch.setattr(FastV, "prune", prune)
    model = llava_onevision()
    with torch.no_grad(), attach(model, "fastv", {"fastv.layer": 2}) as session:
        model(**prompt())
        gc.collect()
        assert [view() for view in views] == [None]
        assert session.report[0].stages[0].strategy == "fastv"


def test_a_promise_is_looked_at_once() -> None:
    promises, seen = Promises(), []
    promises.make([torch.tensor(3), torch.tensor(0.5)], lambda read: seen.append([*read]))
    promises.check()  # nothing has been sent
    assert not seen
    promises.make([torch.tensor(True)], lambda read: seen.append([*read]))
    promises.send()
    promises.check()
    promises.check()
    assert seen == [[1.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_counts_are_exact_beside_features_of_half_precision(dtype: torch.dtype) -> None:
    """323 is no number of bfloat16."""
    promises, read = Promises(), []
    promises.make([torch.ones((), dtype=dtype), torch.tensor(6201)], read.extend)
    promises.make([torch.tensor(323)], read.extend)
    promises.send()
    promises.check()
    assert read == [1, 6201, 323]


def test_reports_owe_nothing_to_copies() -> None:
    model = llava_onevision()
    with torch.no_grad(), attach(model, "uniform+fastv", {"fastv.layer": 2}) as session:
        model(**prompt())
        report = session.report[0]
    assert "slots" not in vars(report) and "stages" not in vars(report)
    copied, stored = copy.deepcopy(report), pickle.loads(pickle.dumps(report))
    assert copied.as_dict() == stored.as_dict() == report.as_dict()
    assert [stage.strategy for stage in report.stages] == ["uniform", "fastv"]
