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
from models import llava_onevision, prompt
from torch import Tensor

from tokenprune import attach
from tokenprune.errors import StrategyError
from tokenprune.guards.promises import Promises
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.uniform import Uniform


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
