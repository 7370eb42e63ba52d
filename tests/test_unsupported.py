"""Ways of generating and models that are refused, and stages that break their promise."""

from __future__ import annotations

import copy

import pytest
import torch
from models import llava_onevision, prompt
from traces import fingerprint

from tokenprune import attach, build
from tokenprune.compat import caching, encoded, filled_cache
from tokenprune.errors import (
    LayoutError,
    StrategyError,
    UnsupportedGenerationError,
    UnsupportedModelError,
)
from tokenprune.strategies.random import Random

GREEDY = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module")
def model():
    return llava_onevision()


# what is refused


@pytest.mark.parametrize(
    ("spec", "kwargs", "message"),
    [
        ("dycoke", {"num_beams": 2}, "beam search cannot be combined with a decode stage"),
        ("dycoke+fastv", {"cache_implementation": "static"}, "default dynamic cache"),
        ("random", {"prefill_chunk_size": 8}, "chunked prefill"),
        ("random", {"prompt_lookup_num_tokens": 2}, "rewind the cache"),
    ],
)
def test_ways_of_generating_that_cannot_work(spec, kwargs, message):
    model = llava_onevision()
    before = copy.deepcopy(fingerprint(model)[2:])
    with (
        pytest.raises((UnsupportedGenerationError, LayoutError), match=message),
        attach(model, spec),
    ):
        model.generate(**prompt(4), **{**GREEDY, **kwargs})
    assert fingerprint(model)[2:] == before


def test_assisted_decoding_is_refused(model):
    with (
        pytest.raises(UnsupportedGenerationError, match="rewind the cache"),
        attach(model, "random"),
    ):
        model.generate(**prompt(4), **GREEDY, assistant_model=llava_onevision(3))


def test_a_video_behind_a_filled_cache_is_refused(model):
    inputs = prompt(4)
    with attach(model, "random"), torch.no_grad():
        cache = filled_cache(model(input_ids=torch.randint(8, 64, (1, 6))))
        with pytest.raises(UnsupportedGenerationError, match="behind a filled cache"):
            model(**inputs, **caching(model, cache))


def test_a_four_dimensional_mask_is_refused(model):
    inputs = prompt(4)
    length = inputs["input_ids"].shape[1]
    inputs["attention_mask"] = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    with (
        pytest.raises(UnsupportedGenerationError, match="2-D attention mask"),
        attach(model, "random"),
    ):
        model(**inputs)


def test_models_that_do_not_fit_are_refused(model):
    with pytest.raises(UnsupportedModelError, match=r"supported families are .*llava_onevision"):
        attach(model.model.language_model, "random")
    with pytest.raises(UnsupportedModelError, match="load LlavaOnevisionForConditionalGeneration"):
        attach(model.model, "random")
    with pytest.raises(StrategyError, match=r"fastv.layer=9 .* write a layer from 1 to 4"):
        attach(model, "fastv", {"fastv.layer": 9})
    with pytest.raises(StrategyError, match="no allocator that an assistant could guide"):
        attach(model, "fastv", assistant=llava_onevision(1))
    with pytest.raises(StrategyError, match="options go with a spec string"):
        attach(model, build("fastv"), {"fastv.drop": 0.1})
    with (
        pytest.raises(
            StrategyError, match=r"dytok.layers=\[1,9\] does not fit the guide, which has 5 layers"
        ),
        attach(model, "random+dytok", {"dytok.layers": [1, 9]}),
    ):
        model(**prompt(4))
    with (
        pytest.raises(StrategyError, match="dytok cannot redistribute the budget of random"),
        attach(model, "random+dytok", {"dytok.cap": 1, "random.keep": 0.9}),
    ):
        model(**prompt(4))


def test_tower_signals_need_the_tower_inside_the_block(model):
    inputs = prompt(4)
    with torch.no_grad():
        features = model.model.get_video_features(
            inputs.pop("pixel_values_videos"), return_dict=True
        ).pooler_output
    with attach(model, "random"), torch.no_grad():
        model(**inputs, **encoded(features))
    with (
        pytest.raises(UnsupportedGenerationError, match="did not run inside the block"),
        attach(model, "visionzip"),
    ):
        model(**inputs, **encoded(features))


# a stage that breaks its promise


def broken(**methods):
    return type("Broken", (Random,), {"name": "broken", **methods})()


def test_a_stage_that_does_not_keep_its_budget_is_an_error(model):
    lazy = broken(compress=lambda self, tokens, budget: tokens)
    with (
        pytest.raises(
            StrategyError, match=r"Broken.compress kept .* a stage keeps exactly its budget"
        ),
        attach(model, build("none") + lazy),
    ):
        model(**prompt(4))
    greedy = broken(quota=lambda self, tokens: tokens.counts + 1)
    with (
        pytest.raises(StrategyError, match=r"Broken\.quota asks for"),
        attach(model, build("none") + greedy),
    ):
        model(**prompt(4))
