"""What outlives a pass or the block: caches, threads, copies of the model and of its configuration,
other kernels.
"""

from __future__ import annotations

import copy
import io
import pickle
import threading
from typing import Any

import pytest
import torch
from models import llava_onevision, prompt
from traces import fingerprint
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from tokenprune import attach
from tokenprune.compat import caching, filled_cache
from tokenprune.errors import StrategyError, UnsupportedGenerationError
from tokenprune.runtime.cache import CompressedLayer, compressed_cache

GREEDY: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
SPECS = ["visionzip", "random", "dycoke", "fastv", "fastv+dycoke"]
OPTIONS = {"fastv+dycoke": {"dycoke.merge": 0.0}}
OUTSIDE = "grows only inside the attach block that filled it"


@pytest.fixture(scope="module")
def model():
    return llava_onevision()


def first_turn(model, spec: str) -> tuple[Any, dict[str, Any]]:
    """The cache of a prompt, and the arguments of a second turn behind it."""
    inputs = prompt(4)
    with attach(model, spec, OPTIONS.get(spec)):
        out = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
    ids = torch.cat([out.sequences, torch.tensor([[9, 10, 11]])], dim=1)
    cache = filled_cache(out)
    return cache, {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        **caching(model, cache),
    }


# caches


@pytest.mark.parametrize("spec", SPECS)
def test_a_second_turn_after_the_block_is_refused(model, spec):
    cache, turn = first_turn(model, spec)
    word = torch.tensor([[9]])
    with pytest.raises(UnsupportedGenerationError, match=OUTSIDE):
        model.generate(**turn, **GREEDY)
    with pytest.raises(UnsupportedGenerationError, match=OUTSIDE):
        model(input_ids=word, **caching(model, cache))
    with (
        attach(model, spec, OPTIONS.get(spec)),
        pytest.raises(UnsupportedGenerationError, match=OUTSIDE),
    ):
        model(input_ids=word, **caching(model, cache))


def test_a_second_turn_after_a_block_that_compressed_nothing_is_stock(model):
    _, turn = first_turn(model, "none")
    inputs = prompt(4)
    out = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
    expected = model.generate(**{**turn, **caching(model, filled_cache(out))}, **GREEDY)
    assert torch.equal(model.generate(**turn, **GREEDY), expected)


@pytest.mark.parametrize("spec", ["random", "dycoke"])
def test_a_cache_is_of_one_model_and_one_object(model, spec):
    """A copy or another model has no session that would correct masks and positions."""
    inputs, word, other = prompt(4), torch.tensor([[9]]), llava_onevision(3)
    with attach(model, spec), torch.no_grad():
        cache: Any = filled_cache(model(**inputs))
        for there, one in (
            (model, copy.deepcopy(cache)),
            (model, pickle.loads(pickle.dumps(cache))),
            (other, cache),
        ):
            with pytest.raises(UnsupportedGenerationError, match=OUTSIDE):
                there(input_ids=word, **caching(there, one))
        with attach(other, spec), pytest.raises(UnsupportedGenerationError, match=OUTSIDE):
            other(input_ids=word, **caching(other, cache))
        length = cache.get_seq_length()
        model(input_ids=word, **caching(model, cache))
        assert cache.get_seq_length() == length + 1, "it goes on where it belongs"


def test_an_emptied_cache_takes_the_next_video(model):
    inputs, cache = prompt(4), DynamicCache()
    with attach(model, "fastv"):
        expected = model.generate(**inputs, **GREEDY)
        for _ in range(2):
            assert torch.equal(
                model.generate(**inputs, **GREEDY, **caching(model, cache)), expected
            )
            cache.reset()
    ids = torch.randint(8, 64, (1, 9))
    assert torch.equal(
        model.generate(ids, **GREEDY, **caching(model, cache)), model.generate(ids, **GREEDY)
    )


class QuantizedLayer(DynamicLayer):
    """As transformers names those of its two backends, neither of which is installed here."""


class CustomLayer(DynamicLayer):
    pass


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (QuantizedLayer, "leave out cache_implementation='quantized'"),
        (lambda: DynamicSlidingWindowLayer(sliding_window=8), "set use_sliding_window=False"),
        (
            CustomLayer,
            r"a DynamicCache of CustomLayer is not known .* pass an empty DynamicCache\(\)",
        ),
    ],
)
def test_caches_that_cannot_take_a_compressed_prompt_say_why(layer, message):
    cache = DynamicCache()
    cache.layers.append(layer())
    with pytest.raises(UnsupportedGenerationError, match=message):
        compressed_cache(cache, 5, CompressedLayer)


def test_an_offloaded_cache_is_refused_by_its_name(model):
    cache = DynamicCache()
    # what cache_implementation="offloaded" sets; its streams need an accelerator
    cache.offloading = True
    with (
        attach(model, "random"),
        pytest.raises(UnsupportedGenerationError, match=r"offloaded.*dycoke\.offload=true"),
    ):
        model.generate(**prompt(4), **GREEDY, **caching(model, cache))


# generation without a cache


@pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 2}, {"num_return_sequences": 2, "num_beams": 2}]
)
@pytest.mark.parametrize("spec", ["none", "random", "uniform", "visionzip", "prumerge"])
def test_generation_without_a_cache_equals_with_one(model, spec, settings):
    inputs = prompt(4, ((4, 5), (2, 3)))
    with attach(model, spec):
        answers = [
            model.generate(**inputs, **GREEDY, **settings, use_cache=use)
            for use in (True, False, True)
        ]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("spec", ["fastv", "dycoke", "random+dytok", "visionzip+fastv"])
def test_what_the_newest_token_would_choose_anew_is_refused_without_a_cache(model, spec):
    inputs = prompt(4)
    with attach(model, spec, OPTIONS.get(spec)) as session:
        with pytest.raises(UnsupportedGenerationError, match="generate with use_cache=True"):
            model.generate(**inputs, **GREEDY, use_cache=False)
        one = model.generate(**inputs, **{**GREEDY, "max_new_tokens": 1}, use_cache=False)
        assert torch.equal(one, model.generate(**inputs, **{**GREEDY, "max_new_tokens": 1}))
        with torch.no_grad():
            assert torch.equal(model(**inputs, use_cache=False).logits, model(**inputs).logits)
    assert len(session.reports) == 5


@pytest.fixture
def sent(model):
    """A model whose every call gets its arguments in new containers, as one on several devices."""
    hooks = pytest.importorskip("accelerate.hooks", reason="device_map needs accelerate")
    here = hooks.AlignDevicesHook(execution_device=torch.device("cpu"), io_same_device=True)
    hooks.add_hook_to_module(model, here)
    yield model
    hooks.remove_hook_from_module(model)


def test_features_are_known_again_when_their_containers_are_new(sent):
    inputs = prompt(4)
    media = {"pixel_values_videos": inputs["pixel_values_videos"]}
    words = {name: part for name, part in inputs.items() if name not in media}
    with attach(sent, "visionzip") as session:
        cached = sent.generate(**inputs, **GREEDY)
        assert torch.equal(sent.generate(**inputs, **GREEDY, use_cache=False), cached)
        assert torch.equal(sent.generate(**words, **session.encode(**media), **GREEDY), cached)
    with (
        attach(sent, "fastv"),
        pytest.raises(UnsupportedGenerationError, match="generate with use_cache=True"),
    ):
        sent.generate(**inputs, **GREEDY, use_cache=False)


def test_readings_of_the_tower_belong_to_the_features_they_came_with(model):
    """Another video's features, made outside, have none."""
    inputs, other = prompt(4), prompt(4, seed=1)
    with torch.no_grad():
        features = model.model.get_video_features(
            other.pop("pixel_values_videos"), return_dict=True
        )
    with attach(model, "visionzip"):
        model.generate(**inputs, **GREEDY, use_cache=False)
        with pytest.raises(UnsupportedGenerationError, match="did not run inside the block"):
            model(**other, mm_encoder_outputs={"video": features})


# threads, copies, kernels


@pytest.mark.parametrize("spec", SPECS)
def test_a_block_that_is_left_while_a_thread_generates(model, spec):
    """The answer so far was compressed; what comes then would not be, so it is an error and no
    other answer.
    """
    inputs, third, left, failed = prompt(4), threading.Event(), threading.Event(), []

    def pause(ids: Any, scores: Any) -> Any:
        if ids.shape[1] == inputs["input_ids"].shape[1] + 2:
            third.set()
            left.wait(20)
        return scores

    def generate() -> None:
        try:
            model.generate(**inputs, **GREEDY, logits_processor=[pause])
        except UnsupportedGenerationError as error:
            failed.append(str(error))

    with attach(model, spec, OPTIONS.get(spec)):
        thread = threading.Thread(target=generate)
        thread.start()
        assert third.wait(20)
    left.set()
    thread.join()
    assert len(failed) == 1
    assert OUTSIDE in failed[0]


def test_a_block_that_is_left_within_a_pass(model):
    """Layers above the one that was running would not be narrowed."""
    inputs, passes = prompt(4), []
    session = attach(model, "fastv")
    session.__enter__()

    def leave(*_: Any) -> None:
        passes.append(1)
        if len(passes) == 2:  # the first decoding step
            session.__exit__(None, None, None)

    handle = model.model.language_model.layers[1].register_forward_hook(leave)
    with pytest.raises(UnsupportedGenerationError, match=OUTSIDE):
        model.generate(**inputs, **GREEDY)
    handle.remove()


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        pickle.dumps,
        lambda model: torch.save(model, io.BytesIO()),
        torch.optim.swa_utils.AveragedModel,
        lambda model: copy.deepcopy(model.model.language_model),
    ],
    ids=["deepcopy", "pickle", "save", "averaged", "part"],
)
def test_a_model_is_not_copied_as_a_whole_inside_the_block(copied):
    model, inputs = llava_onevision(), prompt(4)
    with (
        attach(model, "fastv"),
        pytest.raises(StrategyError, match="copy it before the block or after it"),
    ):
        copied(model)
    copied(model)
    model(**inputs)  # transformers installs hooks of its own at the first call
    before = copy.deepcopy(fingerprint(model))
    with attach(model, "fastv"):
        expected = model.generate(**inputs, **GREEDY)
        with pytest.raises(StrategyError, match="copy it before the block or after it"):
            copied(model)
        assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    assert fingerprint(model) == before


def test_weights_and_configurations_saved_inside_the_block_are_stock(tmp_path):
    model, inputs = llava_onevision(), prompt(4)
    expected = model.generate(**inputs, **GREEDY)
    with attach(model, "fastv"):
        weights = copy.deepcopy(model.state_dict())
        configs = [copy.deepcopy(model.config), pickle.loads(pickle.dumps(model.config))]
        configs.append(type(model.config).from_dict(model.config.to_dict()))
        model.save_pretrained(tmp_path)
    assert "tokenprune" not in (tmp_path / "config.json").read_text()
    again = type(model).from_pretrained(tmp_path).eval()
    others = [type(model)(config).eval() for config in configs]
    for other in others:
        other.load_state_dict(weights)
    for other in (again, *others):
        other.generation_config = model.generation_config
        assert other.config.text_config._attn_implementation == "sdpa"
        assert torch.equal(other.generate(**inputs, **GREEDY), expected)


@pytest.mark.parametrize("spec", ["random", "fastv", "dycoke", "visionzip", "random+dytok"])
def test_another_attention_implementation_inside_the_block_is_refused_and_kept(spec):
    model, inputs = llava_onevision(), prompt(4)
    with attach(model, spec):
        model.set_attn_implementation("eager")
        with pytest.raises(StrategyError, match=r"changed to 'eager' .* before attach"):
            model.generate(**inputs, **GREEDY)
    assert model.model.language_model.config._attn_implementation == "eager", "the caller's choice"
    with attach(model, spec):
        model.generate(**inputs, **GREEDY)


def test_an_assistants_implementation_is_watched_as_well(model):
    guide = llava_onevision(3)
    with attach(model, "random+dytok", assistant=guide):
        guide.set_attn_implementation("eager")
        with pytest.raises(StrategyError, match="changed to 'eager'"):
            model.generate(**prompt(4), **GREEDY)
