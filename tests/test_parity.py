"""Parity with stock Hugging Face and with brute force, on small random models."""

from __future__ import annotations

from typing import Any

import pytest
import reference
import torch
from models import CELLS, llava_onevision, prompt

from tokenprune import attach, build
from tokenprune.compat import caching, filled_cache
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.strategies.fastv import FastV
from tokenprune.strategy import VisionStage
from tokenprune.tokens import SequenceView, Signals

STEPS = 6
RAGGED = ((4, 5), (1, 9), (7, 2))


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request):
    return llava_onevision(attention=request.param)


def generate(model, inputs, **kwargs):
    return model.generate(
        **inputs,
        **{
            "max_new_tokens": STEPS,
            "do_sample": False,
            "return_dict_in_generate": True,
            "output_logits": True,
            **kwargs,
        },
    )


def test_none_is_stock_generate_token_for_token(model):
    inputs = prompt(4, RAGGED)
    stock = generate(model, inputs)
    with attach(model, "none") as session:
        ours = generate(model, inputs)
    assert torch.equal(ours.sequences, stock.sequences)
    assert all(torch.equal(a, b) for a, b in zip(ours.logits, stock.logits, strict=True))
    assert session.report[0].layers == [4 * CELLS] * 5
    assert session.report[0].decode_ratio == 1.0


def test_none_is_stock_sampling(model):
    inputs = prompt(3)
    torch.manual_seed(3)
    stock = generate(model, inputs, do_sample=True, top_k=20)
    torch.manual_seed(3)
    with attach(model, "none"):
        ours = generate(model, inputs, do_sample=True, top_k=20)
    assert torch.equal(ours.sequences, stock.sequences)


ZERO = [
    ("fastv", {"fastv.drop": 0.0}),
    ("dycoke", {"dycoke.merge": 0.0, "dycoke.prune": 0.0}),
    ("random", {"random.keep": 1.0}),
    ("uniform", {"uniform.keep": 1.0}),
    ("prumerge", {"prumerge.keep": 1.0}),
    ("fastv+dytok", {"fastv.drop": 0.0}),
    ("random+dytok", {"random.keep": 1.0}),
]


@pytest.mark.parametrize(("spec", "options"), ZERO, ids=[spec for spec, _ in ZERO])
def test_a_zero_drop_changes_no_logit(model, spec, options):
    inputs = prompt(5)
    stock = generate(model, inputs)
    with attach(model, spec, options):
        ours = generate(model, inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours.logits, stock.logits, strict=True))


def test_fastv_equals_hand_masked_attention(model):
    inputs, layer = prompt(4), 2
    with attach(model, "fastv", {"fastv.layer": layer, "fastv.drop": 0.6}) as session:
        ours = generate(model, inputs)
    span, kept_columns = reference.video_span(inputs), {}
    embeds = reference.embeddings(model, inputs)
    length = embeds.shape[1]

    def visible(number, attention):
        if number < layer:
            return None
        if number == layer and not kept_columns:
            row = attention[:, length - 1, :length].mean(0)
            number_kept = round(int(span.sum()) * 0.4)
            top = row.masked_fill(~span, -1).topk(number_kept).indices
            kept_columns["mask"] = (~span).index_fill(0, top, True)
        mask = torch.ones(embeds.shape[1], dtype=torch.bool)
        mask[:length] = kept_columns["mask"]
        return mask.expand(embeds.shape[1], -1)

    for step in range(STEPS):
        expected = reference.logits(model, embeds, visible)[-1]
        assert torch.allclose(ours.logits[step][0], expected, atol=2e-4), step
        token = ours.sequences[:, inputs["input_ids"].shape[1] + step]
        embeds = torch.cat([embeds, model.get_input_embeddings()(token)[:, None]], dim=1)
    assert session.report[0].layers == [36, 36, 14, 14, 14]
    assert session.report[0].decode == [14] * (STEPS - 1)


@pytest.mark.parametrize("follow", ["paper", "released"])
@pytest.mark.parametrize("threshold", [0.0, 0.9, 2.0])
def test_dycoke_decode_equals_hand_masked_attention(model, follow, threshold):
    """Every generated row sees text and its own step's selection, in layers from `layer` up."""
    layer = 2
    stage = DyCoke(merge=0.0, prune=0.7, layer=layer, threshold=threshold, follow=follow)
    inputs = prompt(6)
    with attach(model, build("none") + stage) as session:
        ours = generate(model, inputs)
    span = reference.video_span(inputs)
    embeds = reference.embeddings(model, inputs)
    # nothing is merged, but the released code sorts a frame's tokens by similarity
    order = [
        frame * CELLS + slot
        for frame, slots in enumerate(session.report[0].slots)
        for slot in slots
    ]
    embeds[:, span] = embeds[:, span][:, order]
    length, state, hidden_rows = embeds.shape[1], stage.start(), []
    for step in range(STEPS):
        total = embeds.shape[1]

        def visible(number, attention, total=total):
            if number < layer or total == length:
                return None
            mask = torch.ones(total, total, dtype=torch.bool)
            for row, columns in enumerate(hidden_rows):
                mask[length + row, : len(columns)] = columns
            if number == layer and len(hidden_rows) < total - length:
                nonlocal state
                frame = torch.full((total,), -1)
                frame[:length][span] = torch.arange(6).repeat_interleave(CELLS)
                view = SequenceView(frame, torch.arange(total), attention[:, -1].mean(0), 6)
                columns, state = stage.attend(view, state)
                hidden_rows.append(columns)
                mask[-1] = columns
            return mask

        expected = reference.logits(model, embeds, visible)[-1]
        assert torch.allclose(ours.logits[step][0], expected, atol=2e-4), step
        token = ours.sequences[:, inputs["input_ids"].shape[1] + step]
        embeds = torch.cat([embeds, model.get_input_embeddings()(token)[:, None]], dim=1)
    counts = [int(columns[:length][span].sum()) for columns in hidden_rows]
    assert session.report[0].decode == counts
    if threshold == 2.0:
        assert set(counts) == {16}


VISION = ["dycoke", "visionzip", "prumerge", "random", "uniform"]
VISION_OPTIONS = {"dycoke": {"dycoke.prune": 0.0}}


@pytest.mark.parametrize("spec", VISION)
def test_a_vision_stage_equals_the_dense_oracle(model, spec):
    """The stock language model given the compressed embeddings from the start, tower signals from
    full maps.
    """
    inputs = prompt(6)
    pipeline = build(spec, VISION_OPTIONS.get(spec))
    (stage,) = pipeline.of(VisionStage)
    with attach(model, pipeline) as session:
        ours = generate(model, inputs)
    signals = pipeline.signals if any(pipeline.signals) else Signals("received", "full")
    with torch.no_grad():
        tokens = reference.visual_tokens(model, inputs, signals)
        small = stage.compress(tokens, stage.quota(tokens))
        embeds, span = reference.embeddings(model, inputs), reference.video_span(inputs)
        first, last = int(span.nonzero()[0]), int(span.nonzero()[-1])
        embeds = torch.cat([embeds[:, :first], small.features[None], embeds[:, last + 1 :]], dim=1)
        for step in range(STEPS):
            assert torch.allclose(
                ours.logits[step][0], reference.logits(model, embeds)[-1], atol=2e-4
            ), step
            token = ours.sequences[:, inputs["input_ids"].shape[1] + step]
            embeds = torch.cat([embeds, model.get_input_embeddings()(token)[:, None]], dim=1)
    assert session.report[0].layers == [len(small)] * 5
    assert [slot for frame in session.report[0].slots for slot in frame] == small.slot.tolist()


SPECS = [
    *VISION,
    "fastv",
    "dycoke+dytok",
    "fastv+dytok",
    "visionzip+dytok",
    "dycoke+fastv",
    "uniform+fastv+dycoke",
]
OPTIONS = {
    "uniform+fastv+dycoke": {
        "dycoke.merge": 0.0,
        "uniform.keep": 0.8,
        "fastv.layer": 3,
        "dycoke.layer": 2,
    }
}


def singles(inputs):
    for sample in range(len(inputs["input_ids"])):
        real = inputs["attention_mask"][sample].bool()
        yield {
            "input_ids": inputs["input_ids"][sample : sample + 1, real],
            "attention_mask": inputs["attention_mask"][sample : sample + 1, real],
            "pixel_values_videos": inputs["pixel_values_videos"][sample : sample + 1],
        }


def facts(report):
    return {name: value for name, value in report.as_dict().items() if name != "frame_weights"}


@pytest.mark.parametrize("spec", SPECS)
def test_a_padded_batch_gives_each_sample_what_it_gets_alone(model, spec):
    inputs = prompt(5, RAGGED)
    with attach(model, spec, OPTIONS.get(spec)) as session:
        batch = generate(model, inputs)
        together = session.report
        for sample, single in enumerate(singles(inputs)):
            alone = generate(model, single)
            for step in range(STEPS):
                assert torch.allclose(
                    batch.logits[step][sample], alone.logits[step][0], atol=2e-4
                ), (sample, step)
            assert facts(together[sample]) == facts(session.report[0])


@pytest.mark.parametrize("spec", ["dycoke", "fastv", "prumerge"])
def test_a_right_padded_forward_keeps_its_padding_right(model, spec):
    inputs = prompt(4, RAGGED, pad="right")
    with attach(model, spec) as session, torch.no_grad():
        batch = model(**inputs).logits
        for sample, single in enumerate(singles(inputs)):
            alone = model(**single).logits[0]
            rows = len(alone)
            assert torch.allclose(batch[sample, :rows], alone, atol=2e-4)
    assert len(session.reports) == 4


def test_plain_prefill_and_manual_decoding(model):
    inputs = prompt(4)
    with attach(model, "dycoke") as session, torch.no_grad():
        expected = generate(model, inputs, max_new_tokens=3)
        out = model(**inputs)
        mask, ids = inputs["attention_mask"], []
        for _ in range(3):
            ids.append(out.logits[:, -1:].argmax(-1))
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            out = model(input_ids=ids[-1], attention_mask=mask, **caching(model, filled_cache(out)))
    assert torch.equal(torch.cat(ids, 1), expected.sequences[:, -3:])
    assert len(session.reports) == 2


def test_fastv_cache_lengths_and_positions():
    """The specification, section 2: full below the layer, kept above, one more per new token."""
    model = llava_onevision(depth=6)
    inputs = prompt(4)
    length = inputs["input_ids"].shape[1]
    with attach(model, build("none") + FastV(layer=2, drop=0.75)):
        out = generate(model, inputs, max_new_tokens=3)
    cache: Any = filled_cache(out)
    cached = [layer.keys.shape[2] for layer in cache.layers]
    assert cached == [length + 2] * 2 + [length - 36 + 9 + 2] * 4
    seen = [cache.get_seq_length(layer) for layer in range(6)]
    assert seen == [length + 2] * 6, "a cache reports the tokens it has seen"
