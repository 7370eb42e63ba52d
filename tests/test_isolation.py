"""`attach` leaves nothing behind, and two models never see each other."""

from __future__ import annotations

import copy

import pytest
import torch
from models import llava_onevision, prompt
from traces import fingerprint

from tokenprune import attach
from tokenprune.errors import StrategyError

GREEDY = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module")
def model():
    return llava_onevision()


class Boom(RuntimeError):  # noqa: N818
    pass


def explode(*_):
    raise Boom


@pytest.mark.parametrize(
    "spec", ["none", "dycoke", "fastv", "visionzip+dytok", "uniform+fastv+dycoke"]
)
def test_nothing_is_left_after_the_block_or_an_exception(spec):
    model, inputs = llava_onevision(), prompt(4)
    # transformers installs hooks of its own at the first call
    before_logits = model(**inputs).logits
    before = copy.deepcopy(fingerprint(model))
    options = {"dycoke.merge": 0.0} if "uniform" in spec else {}
    with attach(model, spec, options):
        model.generate(**inputs, **GREEDY)
        assert fingerprint(model) != before
    assert fingerprint(model) == before
    for where in (model.model.language_model.layers[3], model.model.vision_tower, model.lm_head):
        handle = where.register_forward_pre_hook(explode)
        with pytest.raises(Boom), attach(model, spec, options):
            model.generate(**inputs, **GREEDY)
        handle.remove()
        assert fingerprint(model) == before
    assert torch.equal(model(**inputs).logits, before_logits)


def test_a_session_survives_an_exception_inside_the_block(model):
    inputs = prompt(4)
    with attach(model, "fastv+dytok") as session:
        expected = model.generate(**inputs, **GREEDY)
        handle = model.model.language_model.layers[3].register_forward_pre_hook(explode)
        with pytest.raises(Boom):
            model.generate(**inputs, **GREEDY)
        handle.remove()
        assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    assert len(session.reports) == 2


def test_two_models_in_one_process_never_see_each_other():
    first, second, inputs = llava_onevision(0), llava_onevision(1, attention="eager"), prompt(6)
    stock = [model.generate(**inputs, **GREEDY) for model in (first, second)]
    with attach(first, "fastv") as a:
        alone = first.generate(**inputs, **GREEDY)
        assert torch.equal(second.generate(**inputs, **GREEDY), stock[1])
        with attach(second, "random+dytok") as b:
            other = second.generate(**inputs, **GREEDY)
            assert torch.equal(first.generate(**inputs, **GREEDY), alone)
        assert torch.equal(first.generate(**inputs, **GREEDY), alone)
    assert (len(a.reports), len(b.reports)) == (3, 1)
    with attach(second, "random+dytok"):
        assert torch.equal(second.generate(**inputs, **GREEDY), other)
    assert torch.equal(first.generate(**inputs, **GREEDY), stock[0])


def test_attaching_twice_is_refused(model):
    with (
        attach(model, "random"),
        pytest.raises(StrategyError, match=r"attached already: compose strategies with \+"),
    ):
        attach(model, "fastv").__enter__()
    assert model.config.text_config._attn_implementation == "sdpa"


def test_state_does_not_leak_from_one_video_to_the_next(model):
    videos = [prompt(frames, seed=frames) for frames in (6, 3, 8, 6)]
    with attach(model, "dycoke"):
        together = [model.generate(**video, **GREEDY) for video in videos]
    for video, expected in zip(videos, together, strict=True):
        with attach(model, "dycoke"):
            assert torch.equal(model.generate(**video, **GREEDY), expected)
