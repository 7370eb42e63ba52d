"""A session without a block: `start` and `stop`, as notebooks want it."""

from __future__ import annotations

import copy
import gc
import threading

import pytest
import torch
from models import llava_onevision, prompt
from traces import fingerprint, remarks

from tokenprune import attach
from tokenprune.errors import StrategyError
from tokenprune.runtime.session import ENTERING

GREEDY = {"max_new_tokens": 3, "do_sample": False}


@pytest.fixture
def model():
    made = llava_onevision()
    made.generate(**prompt(1), max_new_tokens=1)  # transformers installs hooks of its own then
    return made


def test_start_and_stop_are_the_block(model):
    before, inputs = copy.deepcopy(fingerprint(model)), prompt(4)
    with attach(model, "fastv+dytok") as block:
        expected = model.generate(**inputs, **GREEDY)
    session = attach(model, "fastv+dytok")
    assert repr(session) == "attached 'fastv+dytok' to a llava_onevision: not open, 0 video prompts"
    assert session.start() is session
    assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    assert repr(session).endswith(": open, 1 video prompt")
    session.stop()
    assert fingerprint(model) == before
    assert session.report[0].as_dict() == block.report[0].as_dict()
    session.start()
    model.generate(**inputs, **GREEDY)
    session.stop()
    assert len(session.reports) == 2


def test_what_is_open_or_not_is_said(model):
    session = attach(model, "fastv").start()
    with pytest.raises(StrategyError, match=r"open already: leave its block .* \(stop\(\) "):
        session.start()
    with pytest.raises(StrategyError, match=r"of a session that was started, call stop\(\)"):
        attach(model, "dycoke").start()
    session.stop()
    with pytest.raises(StrategyError, match=r"not open: .* session.start\(\) before and"):
        session.stop()
    with session, pytest.raises(StrategyError, match="open already"):
        session.start()


def test_a_session_that_is_dropped_ends_and_says_so(model):
    before = copy.deepcopy(fingerprint(model))
    attach(model, "fastv").start().stop()
    with remarks() as said:
        session = attach(model, "fastv").start()
        assert fingerprint(model) != before
        del session
        gc.collect()
    (only,) = said
    assert "a session of 'fastv' was dropped while it was open" in str(only.message)
    assert fingerprint(model) == before
    with attach(model, "dycoke") as other:  # the model is free again
        model.generate(**prompt(4), **GREEDY)
    assert other.report[0].kept < other.report[0].full


def test_a_session_may_be_dropped_while_another_is_entered(model):
    """As the garbage collector may have it: nobody waits for himself."""
    held = [attach(model, "fastv").start()]
    with remarks() as said:

        def enter() -> None:
            with ENTERING:
                held.clear()
                gc.collect()

        thread = threading.Thread(target=enter, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert len(said) == 1


def test_a_program_may_end_with_an_open_session(model):
    """Its model ends with it: there is nothing to say."""
    session = attach(model, "fastv").start()
    assert not session._dropped.atexit
    session.stop()
    assert not session._dropped.alive
