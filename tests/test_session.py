"""`attach` around stock models: every way of generating that works."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import reference
import torch
from models import CELLS, llava_onevision, prompt, shallow
from traces import fingerprint
from transformers import (
    AttentionInterface,
    DynamicCache,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteriaList,
)
from transformers.masking_utils import AttentionMaskInterface

from tokenprune import attach, registry
from tokenprune.compat import caching, filled_cache
from tokenprune.strategy import Allocator

GREEDY = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module")
def model():
    return llava_onevision()


# what works


def test_sampling_streaming_and_stopping_criteria(model):
    inputs, streamed = prompt(4), []

    class Streamer:
        def put(self, value):
            streamed.extend(value.flatten().tolist())

        def end(self):
            streamed.append("end")

    with attach(model, "dycoke"):
        torch.manual_seed(0)
        out = model.generate(
            **inputs,
            do_sample=True,
            max_new_tokens=9,
            streamer=Streamer(),
            logits_processor=LogitsProcessorList([lambda ids, scores: scores]),
            stopping_criteria=StoppingCriteriaList(
                [MaxLengthCriteria(inputs["input_ids"].shape[1] + 6)]
            ),
        )
    new = out[0, inputs["input_ids"].shape[1] :].tolist()
    assert len(new) == 6
    assert streamed[-7:] == [*new, "end"]


@pytest.mark.parametrize("spec", ["random", "fastv", "visionzip+dytok"])
def test_beams_work_without_a_decode_stage(model, spec):
    inputs = prompt(5, ((4, 5), (2, 3)))
    with attach(model, spec) as session:
        beams = model.generate(**inputs, **GREEDY, num_beams=3)
        # beams over the same prompt one at a time
        single = {name: value[:1] for name, value in inputs.items()}
        alone = model.generate(**single, **GREEDY, num_beams=3)
    assert len(session.reports[0]) == 6
    assert torch.equal(beams[0], alone[0])


def test_several_sequences_of_one_prompt(model):
    with attach(model, "dycoke") as session:
        out = model.generate(**prompt(4), do_sample=True, max_new_tokens=4, num_return_sequences=3)
    assert len(out) == len(session.report) == 3


def test_text_only_prompts_pass_through(model):
    ids = torch.randint(8, 64, (2, 12))
    stock = model.generate(input_ids=ids, **GREEDY)
    with attach(model, "dycoke+dytok") as session:
        assert torch.equal(model.generate(input_ids=ids, **GREEDY), stock)
    assert session.reports == []
    with pytest.raises(LookupError, match="no video prompt has gone through"):
        _ = session.report


@pytest.mark.parametrize("spec", ["dycoke+dytok", "fastv"])
def test_a_batch_may_mix_video_and_text_only_samples(model, spec):
    video = prompt(4)
    text = torch.randint(8, 64, (1, 11))
    ids = torch.cat(
        [video["input_ids"], torch.nn.functional.pad(text, (video["input_ids"].shape[1] - 11, 0))]
    )
    with attach(model, spec) as session:
        alone = model.generate(**video, **GREEDY)
        mixed = model.generate(
            input_ids=ids,
            attention_mask=(ids != 0).long(),
            pixel_values_videos=video["pixel_values_videos"],
            **GREEDY,
        )
    assert torch.equal(mixed[0], alone[0])
    assert torch.equal(mixed[1, -5:], model.generate(input_ids=text, **GREEDY)[0, -5:])
    with pytest.raises(LookupError, match="sample 1 of this prompt holds no video"):
        _ = session.report[1]


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("how", ["all ids", "new ids"])
def test_a_second_turn_continues_the_compressed_conversation(model, padding, how):
    """Reference: the stock model on the compressed embeddings followed by both turns' text."""
    inputs = prompt(4)
    inputs["input_ids"] = torch.nn.functional.pad(inputs["input_ids"], (padding, 0))
    inputs["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (padding, 0))
    more = torch.randint(8, 64, (1, 7))
    with attach(model, "random", {"random.keep": 0.4}) as session:
        first = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
        ids = torch.cat([first.sequences, more], dim=1)
        mask = torch.cat(
            [inputs["attention_mask"], torch.ones(1, ids.shape[1] - inputs["input_ids"].shape[1])],
            dim=1,
        )
        # the last generated token has not been cached yet, so it is new as well
        sent = ids if how == "all ids" else ids[:, -8:]
        second = model.generate(
            input_ids=sent,
            attention_mask=mask.long(),
            **caching(model, filled_cache(first)),
            **GREEDY,
            return_dict_in_generate=True,
            output_logits=True,
        )
    embeds, span = reference.embeddings(model, inputs), reference.video_span(inputs)
    kept = torch.tensor(
        [
            frame * CELLS + slot
            for frame, slots in enumerate(session.report[0].slots)
            for slot in slots
        ]
    )
    rows = torch.cat([torch.arange(4), 4 + kept, torch.arange(4 + 4 * CELLS, embeds.shape[1])])
    assert int(span.sum()) == 4 * CELLS
    tail = model.get_input_embeddings()(ids[:, inputs["input_ids"].shape[1] :])
    embeds = torch.cat([embeds[:, rows], tail], dim=1)
    for step in range(5):
        assert torch.allclose(
            second.logits[step][0], reference.logits(model, embeds)[-1], atol=2e-4
        ), step
        token = second.logits[step].argmax(-1)
        embeds = torch.cat([embeds, model.get_input_embeddings()(token)[:, None]], dim=1)


def test_inputs_embeds_and_video_pixels(model):
    inputs = prompt(4)
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    with attach(model, "dycoke"), torch.no_grad():
        by_ids = model(**inputs).logits
        by_embeds = model(
            inputs_embeds=embeds, pixel_values_videos=inputs["pixel_values_videos"]
        ).logits
    assert torch.allclose(by_ids, by_embeds, atol=1e-5)


def test_the_callers_cache_is_the_one_that_fills(model):
    cache = DynamicCache()
    with attach(model, "random", {"random.keep": 0.5}):
        model.generate(**prompt(4), **GREEDY, **caching(model, cache))
    assert cache.get_seq_length() == 4 + 36 + 1 + 5 + 4, "what was seen"
    layers: list[Any] = cache.layers
    held = [layer.keys.shape[2] for layer in layers]
    assert held == [4 + 18 + 1 + 5 + 4] * 5


def test_an_emptied_cache_begins_anew(model):
    cache, ids = DynamicCache(), torch.randint(8, 64, (1, 9))
    with attach(model, "dycoke+fastv"), torch.no_grad():
        expected = model(input_ids=ids).logits
        model(**prompt(4), **caching(model, cache))
        cache.reset()
        assert torch.equal(model(input_ids=ids, **caching(model, cache)).logits, expected)


def test_generation_without_a_cache_equals_with_one(model):
    inputs = prompt(4)
    with attach(model, "random"):
        assert torch.equal(
            model.generate(**inputs, **GREEDY, use_cache=False), model.generate(**inputs, **GREEDY)
        )


def test_half_precision_and_odd_frame_counts():
    model = llava_onevision().to(torch.bfloat16)
    for frames in (1, 2, 3, 7):
        inputs = prompt(frames)
        inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(torch.bfloat16)
        with attach(model, "dycoke+dytok") as session:
            model.generate(**inputs, **GREEDY)
        report = session.report[0]
        assert (
            sum(map(len, report.slots))
            == report.kept
            == sum(9 if f % 4 == 0 else 2 for f in range(frames))
        )


def test_a_flash_kernel_gets_its_arguments_unchanged(model):
    """No flash kernel runs on a CPU, so one is registered under such a name; its mask interface is
    the base's too.
    """
    seen = []

    def flash(module, query, key, value, mask, **kwargs):
        seen.append(kwargs)
        return AttentionInterface._global_mapping["sdpa"](module, query, key, value, mask, **kwargs)

    inputs, other = prompt(4), llava_onevision()
    with attach(model, "random"):
        expected = model.generate(**inputs, **GREEDY)
    AttentionInterface.register("my_flash_kernel", flash)
    AttentionMaskInterface.register(
        "my_flash_kernel", AttentionMaskInterface._global_mapping["sdpa"]
    )
    try:
        other.model.language_model.config._attn_implementation = "my_flash_kernel"
        with attach(other, "random"):
            name = other.model.language_model.config._attn_implementation
            assert "flash" in name
            assert torch.equal(other.generate(**inputs, **GREEDY), expected)
    finally:
        AttentionInterface._global_mapping.pop("my_flash_kernel")
        AttentionMaskInterface._global_mapping.pop("my_flash_kernel")
    assert seen
    assert all("scaling" in kwargs for kwargs in seen)


# the assistant


def test_an_assistant_of_the_same_weights_equals_self_guidance(model):
    inputs = prompt(6, ((4, 5), (2, 8)))
    with attach(model, "random+dytok") as own:
        expected = model.generate(**inputs, **GREEDY)
    twin = llava_onevision()
    before = copy.deepcopy(fingerprint(twin))
    with attach(model, "random+dytok", assistant=twin) as guided:
        assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    assert fingerprint(twin)[3:] == before[3:]
    assert own.report[1].frame_weights == pytest.approx(guided.report[1].frame_weights, abs=1e-6)


def test_a_smaller_assistant_weighs_frames_its_own_way(model):
    small = llava_onevision(seed=7, depth=3, width=16)
    inputs = prompt(6)
    with attach(model, "random+dytok", assistant=small) as guided:
        model.generate(**inputs, **GREEDY)
    with attach(model, "random+dytok") as own:
        model.generate(**inputs, **GREEDY)
    assert guided.report[0].frame_weights != pytest.approx(own.report[0].frame_weights)
    assert guided.report[0].kept == own.report[0].kept
    assert guided.report.probe_layers == 3


def test_the_probe_stops_after_its_last_layer(model):
    calls = []
    handles = [
        layer.mlp.register_forward_hook(lambda *_, n=number: calls.append(n))
        for number, layer in enumerate(model.model.language_model.layers)
    ]
    with attach(model, "random+dytok", {"dytok.layers": [1, 2]}) as session, torch.no_grad():
        model(**prompt(4))
    for handle in handles:
        handle.remove()
    assert calls == [0, 1, *range(5)]
    assert session.report.probe_layers == 3


@pytest.mark.parametrize("name", registry.names())
def test_gradients_flow_through_what_is_kept(name):
    """Nobody has to write `torch.no_grad()` around a forward pass, and who trains behind a strategy
    can.
    """
    model = llava_onevision()
    spec = f"uniform+{name}" if issubclass(registry.get(name), Allocator) else name
    with attach(model, spec, shallow(name)):
        model(**prompt(6, ((4, 5), (2, 3)))).logits.sum().backward()
    assert float(model.model.vision_tower.embeddings.patch_embedding.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("spec", ["dycoke", "fastv+dytok", "visionzip"])
def test_compiled_parts_of_a_model_stay_compiled(spec):
    """torch.compile is optional: what has no hook of ours may be compiled before `attach`."""
    model, compiled = llava_onevision(), llava_onevision()
    for layer in compiled.model.language_model.layers:
        layer.mlp.compile(backend="eager")
        layer.input_layernorm.compile(backend="eager")
    answers = []
    for each in (model, compiled):
        with attach(each, spec):
            answers.append(
                each.generate(**prompt(6, ((4, 5), (2, 3))), max_new_tokens=4, do_sample=False)
            )
    assert torch.equal(*answers)
    assert all(
        layer.mlp._compiled_call_impl is not None for layer in compiled.model.language_model.layers
    )
