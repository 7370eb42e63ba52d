"""The life of a session: it speaks where nobody entered it, and a model or an assistant belongs to
one at a time.
"""

from __future__ import annotations

import copy
import gc
import warnings

import pytest
import torch
from models import llava_onevision, prompt
from traces import fingerprint, remarks

from tokenprune import attach
from tokenprune.errors import StrategyError

GREEDY = {"max_new_tokens": 3, "do_sample": False}


def warm(model):
    # transformers installs hooks of its own at the first call
    model.generate(**prompt(1), max_new_tokens=1)
    return model


@pytest.fixture
def model():
    return warm(llava_onevision())


@pytest.fixture
def guide():
    return warm(llava_onevision(7, depth=3, width=16))


# never entered


@pytest.mark.parametrize("what", ["report", "reports"])
def test_reports_of_a_session_that_was_never_entered_are_an_error(model, what):
    session = attach(model, "fastv")
    model.generate(**prompt(4), **GREEDY)
    with pytest.raises(
        StrategyError, match=r"never entered, so it compressed nothing: write `with attach\(model"
    ):
        getattr(session, what)
    session.__enter__()
    assert session.reports == []
    session.__exit__(None, None, None)


def test_a_session_that_was_never_entered_says_so_when_it_goes(model):
    with remarks() as said:
        attach(model, "fastv")
        gc.collect()
    (only,) = said
    assert only.category is UserWarning
    assert "attach(model, 'fastv') was never entered" in str(only.message)
    assert "write `with attach(model, ...) as session:`" in str(only.message)
    assert "tokenprune" in only.filename


def test_it_says_so_at_the_end_of_a_program_too(model):
    """Most scripts keep the session until they end, when Python collects nothing any more but calls
    its exit hooks.
    """
    session = attach(model, "fastv")
    assert session._unused.atexit
    with session:
        assert not session._unused.alive


def test_a_session_that_was_entered_is_silent(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = attach(model, "fastv")
        with session:
            pass
        del session
        with pytest.raises(RuntimeError, match="mine"), attach(model, "fastv"):
            raise RuntimeError("mine")
        with pytest.raises(StrategyError, match="write a layer"):
            attach(model, "fastv", {"fastv.layer": 9})
        gc.collect()


# entered and left in other orders


def test_a_session_may_be_entered_again_once_it_was_left(model):
    inputs, session = prompt(4), attach(model, "fastv")
    before = copy.deepcopy(fingerprint(model))
    with session:
        first = model.generate(**inputs, **GREEDY)
    assert fingerprint(model) == before
    with session:
        assert torch.equal(model.generate(**inputs, **GREEDY), first)
    assert len(session.reports) == 2


def test_a_session_cannot_be_entered_twice_at_a_time(model):
    inputs, session = prompt(4), attach(model, "fastv")
    with session:
        expected = model.generate(**inputs, **GREEDY)
        with pytest.raises(
            StrategyError, match="open already: leave its block before entering it again"
        ):
            session.__enter__()
        assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    assert len(session.reports) == 2
    assert model.config.text_config._attn_implementation == "sdpa"


def test_a_session_that_is_not_open_cannot_be_left(model):
    session = attach(model, "fastv")
    with pytest.raises(StrategyError, match=r"this session is not open: write `with attach"):
        session.__exit__(None, None, None)
    with session:
        pass
    with pytest.raises(StrategyError, match="this session is not open"):
        session.__exit__(None, None, None)


def test_the_second_session_of_a_model_is_refused_and_leaves_the_first_as_it_is(model):
    inputs, first, second = prompt(4), attach(model, "fastv"), attach(model, "random")
    before = copy.deepcopy(fingerprint(model))
    first.__enter__()
    expected = model.generate(**inputs, **GREEDY)
    with pytest.raises(StrategyError, match=r"attached already: compose strategies with \+"):
        second.__enter__()
    assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    first.__exit__(None, None, None)
    with second:
        model.generate(**inputs, **GREEDY)
    assert (len(first.reports), len(second.reports)) == (2, 1)
    assert fingerprint(model) == before


def test_an_assistant_serves_one_session_at_a_time(model, guide):
    """Also where the blocks would not have been left in reverse order of entry."""
    inputs, other = prompt(4), warm(llava_onevision(1))
    first = attach(model, "random+dytok", assistant=guide)
    second = attach(other, "fastv+dytok", assistant=guide)
    before = copy.deepcopy([fingerprint(each) for each in (model, other, guide)])
    first.__enter__()
    expected = model.generate(**inputs, **GREEDY)
    with pytest.raises(
        StrategyError,
        match=r"assistant is attached already.*leave that block first, or load the assi",
    ):
        second.__enter__()
    assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    first.__exit__(None, None, None)
    second.__enter__()
    other.generate(**inputs, **GREEDY)
    second.__exit__(None, None, None)
    assert [fingerprint(each) for each in (model, other, guide)] == before
    guide.generate(**inputs, **GREEDY)


def test_an_assistant_that_is_attached_as_a_model_is_refused_and_the_reverse(model, guide):
    inputs = prompt(4)
    before = copy.deepcopy([fingerprint(each) for each in (model, guide)])
    with attach(guide, "random"):
        with pytest.raises(
            StrategyError, match="assistant is attached already, as model or assistant"
        ):
            attach(model, "random+dytok", assistant=guide).__enter__()
        guide.generate(**inputs, **GREEDY)
    with attach(model, "random+dytok", assistant=guide):
        with pytest.raises(StrategyError, match="attached already"):
            attach(guide, "random").__enter__()
        model.generate(**inputs, **GREEDY)
    assert [fingerprint(each) for each in (model, guide)] == before


def test_a_tower_that_two_models_share_is_one_that_is_attached(model):
    other = llava_onevision(1)
    other.model.vision_tower = model.model.vision_tower
    with attach(model, "visionzip"), pytest.raises(StrategyError, match="attached already"):
        attach(other, "visionzip").__enter__()
    assert model.model.vision_tower.config._attn_implementation == "sdpa"


def test_nothing_is_left_where_entering_fails(model, monkeypatch):
    before = copy.deepcopy(fingerprint(model))

    def explode(*_, **__):
        raise RuntimeError("no room for a hook")

    monkeypatch.setattr(model.model.language_model, "register_forward_hook", explode)
    with pytest.raises(RuntimeError, match="no room"):
        attach(model, "visionzip").__enter__()
    monkeypatch.undo()
    assert fingerprint(model) == before
    with attach(model, "visionzip"):
        model.generate(**prompt(4), **GREEDY)
