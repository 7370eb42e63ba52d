"""Static caches: transformers' own compiled step runs on what is left of a prompt.

The backend needs no compiler, and a break of the graph is an error. Before torch 2.7 or so the stock
model cannot be compiled as a whole either.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from families import FAMILIES
from models import PAD, llava_onevision, prompt, shallow
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters
from transformers import CompileConfig
from transformers.cache_utils import StaticCache

from tokenprune import attach, build
from tokenprune.compat import caching, filled_cache
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime.fixed_cache import FixedLayer

STEPS = 7
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}
STATIC: dict[str, Any] = {**GREEDY, "cache_implementation": "static"}
RAGGED = ((4, 5), (2, 3), (6, 1))


def compiled() -> dict[str, Any]:
    """On any device, as a whole, without a compiler."""
    config = CompileConfig(fullgraph=True, backend="eager", mode=None)
    config._compile_all_devices = True
    return {**STATIC, "compile_config": config, "return_dict_in_generate": True}


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def whole() -> bool:
    """Whether torch can compile the stock model."""
    with suppress(TorchDynamoException):
        return bool(llava_onevision(depth=1).generate(**prompt(2), **compiled()))
    return False


@pytest.fixture(scope="module")
def model() -> Any:
    return llava_onevision()


@pytest.fixture(scope="module")
def can_compile() -> bool:
    return whole()


@pytest.fixture(autouse=True)
def nothing_compiled(can_compile: bool) -> Iterator[None]:
    if not can_compile:
        pytest.skip("this torch cannot compile the stock model as a whole")
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


SPECS = [
    "none",
    "random",
    "prumerge+fastv",  # counts of its own, positions moved up, fewer rows from a layer up
    "prunevid",  # layers below forget rows, too
    "framefusion",  # several events, rows merged
    "sparsevlm",
    "fastvid",  # original positions
    "dytok+visionzip",
]


@pytest.mark.parametrize("spec", SPECS)
def test_tokens_are_those_of_the_dynamic_cache(model, spec):
    """Of a ragged batch, compiled as one graph, whose layers are as long as what is left."""
    names = [name for name in spec.split("+") if name != "none"]
    options: dict[str, Any] = {key: n for name in names for key, n in shallow(name).items()}
    with attach(model, build(spec, options)) as session:
        expected = model.generate(**prompt(4, RAGGED), **GREEDY)
        found = model.generate(**prompt(4, RAGGED), **STATIC)
        assert torch.equal(found, expected), "one step at a time"
        made = model.generate(**prompt(4, RAGGED), **compiled())
    assert torch.equal(made.sequences, expected)
    assert graphs() == 1
    dynamic, fixed = session.reports[0], session.reports[-1]
    for sample, other in zip(dynamic.samples, fixed.samples, strict=True):
        assert sample is not None and other is not None
        assert sample.as_dict() == other.as_dict(), "steps are counted, too"
    if spec != "none":
        rows = [layer.rows for layer in filled_cache(made).layers]
        # generate does not cache the last token
        assert [len(layer.keys[0, 0]) for layer in filled_cache(made).layers] == [
            n + STEPS - 1 for n in rows
        ]
        text = max(sum(words) for words in RAGGED) + 1
        most = [max(s.layers[n] for s in fixed.samples if s) for n in range(5)]
        assert spec == "prunevid" or all(
            n <= kept + text for n, kept in zip(rows, most, strict=True)
        )


@pytest.mark.parametrize("kind", ["llava_video", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_families(kind):
    model, inputs = FAMILIES[kind].model(), FAMILIES[kind].prompt().inputs
    with attach(model, build("random+fastv", {"fastv.layer": 2})):
        expected = model.generate(**inputs, **GREEDY)
        made = model.generate(**inputs, **compiled())
    assert torch.equal(made.sequences, expected)
    assert graphs() == 1


def test_eager_attention_and_half_precision():
    model = llava_onevision(attention="eager").to(torch.bfloat16)
    inputs = prompt(4, RAGGED)
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(torch.bfloat16)
    with attach(model, build("visionzip+fastv", {"fastv.layer": 2})):
        expected = model.generate(**inputs, **GREEDY)
        assert torch.equal(model.generate(**inputs, **compiled()).sequences, expected)


def test_one_graph_for_prompts_and_sessions_of_a_kind(model):
    """A second one where lengths differ, in which they are variables, and then no more."""
    for keep in (0.25, 0.5):
        with attach(model, build("random", {"random.keep": keep})):
            for words in (5, 5, 9, 2):
                inputs = prompt(4, ((4, words),))
                expected = model.generate(**inputs, **GREEDY)
                assert torch.equal(model.generate(**inputs, **compiled()).sequences, expected)
    assert graphs() == 2
    stock = model.generate(**prompt(4), **GREEDY)
    assert torch.equal(model.generate(**prompt(4), **compiled()).sequences, stock), (
        "after the block"
    )


def test_a_graph_belongs_to_the_layers_that_it_narrows(model):
    for layer in (2, 1, 3):
        with attach(model, build("fastv", {"fastv.layer": layer, "fastv.drop": 0.0})):
            expected = model.generate(**prompt(4), **GREEDY)
            assert torch.equal(model.generate(**prompt(4), **compiled()).sequences, expected)
        with attach(model, build("fastv", {"fastv.layer": layer})):
            expected = model.generate(**prompt(4), **GREEDY)
            assert torch.equal(model.generate(**prompt(4), **compiled()).sequences, expected)


def test_beams_and_several_answers(model):
    with attach(model, build("random+fastv", {"fastv.layer": 2})):
        for more in ({"num_beams": 2}, {"do_sample": True, "num_return_sequences": 3}):
            torch.manual_seed(0)
            expected = model.generate(**prompt(4, RAGGED), **{**GREEDY, **more})
            torch.manual_seed(0)
            found = model.generate(**prompt(4, RAGGED), **{**compiled(), **more})
            assert torch.equal(found.sequences, expected)


# a caller's own cache


def turn(model: Any, sequences: Any, inputs: Any, cache: Any, **more: Any) -> Any:
    """A second question behind an answer, of which nobody is padded at its end."""
    question = torch.arange(len(sequences) * 3).view(-1, 3) % 50 + 8
    ids = torch.cat([sequences, question], dim=1)
    mask = inputs["attention_mask"]
    mask = torch.cat([mask, mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=1)
    sent = {"input_ids": ids, "attention_mask": mask, **caching(model, cache)}
    settings = {**compiled(), **more}
    settings.pop("cache_implementation")
    return model.generate(**sent, **settings)


@pytest.mark.parametrize("spec", ["random", "visionzip+fastv"])
def test_a_second_turn(model, spec):
    inputs, options = prompt(4, RAGGED), {"fastv.layer": 2} if "fastv" in spec else {}
    length = inputs["input_ids"].shape[1] + 2 * STEPS + 3
    with attach(model, build(spec, options)) as session:
        plain = {**GREEDY, "return_dict_in_generate": True}
        first = model.generate(**inputs, **plain)
        expected = turn(model, first.sequences, inputs, filled_cache(first))
        cache = StaticCache(config=model.config.text_config, max_cache_len=length)
        settings = compiled()
        settings.pop("cache_implementation")
        made = model.generate(**inputs, **settings, **caching(model, cache))
        assert filled_cache(made) is cache, "the caller's object fills"
        found = turn(model, made.sequences, inputs, cache)
        assert torch.equal(found.sequences, expected.sequences)
        with pytest.raises(UnsupportedGenerationError, match=r"room for 1 more tokens and gets 4"):
            turn(model, found.sequences, inputs, cache)
    one, other = session.reports[0][0], session.reports[1][0]
    assert one.decode == other.decode
    other.end(3)
    assert other.decode == one.decode[:3] == other.decode


def test_a_cache_is_used_again_after_a_reset(model):
    cache = StaticCache(config=model.config.text_config, max_cache_len=90)
    settings = compiled()
    settings.pop("cache_implementation")
    with attach(model, "random"):
        for seed in (0, 1):
            inputs = prompt(4, ((4 + seed, 5),), seed=seed)
            expected = model.generate(**inputs, **GREEDY)
            found = model.generate(**inputs, **settings, **caching(model, cache))
            assert torch.equal(found.sequences, expected)
            with pytest.raises(UnsupportedGenerationError, match="behind a filled cache"):
                model(**inputs, **caching(model, cache))
            cache.reset()
    expected = model.generate(**prompt(4), **GREEDY)
    found = model.generate(**prompt(4), **GREEDY, **caching(model, cache))
    assert torch.equal(found, expected), "as long as it was, without a session"


# what is refused


@pytest.mark.parametrize(
    ("kind", "spec", "more", "message"),
    [
        ("gemma3", "random", {}, "sliding window"),
        (
            "llava_video",
            "random",
            {"cache_implementation": "offloaded_static"},
            "moves whole layers",
        ),
    ],
)
def test_caches_that_cannot(kind, spec, more, message):
    model, inputs = FAMILIES[kind].model(), FAMILIES[kind].prompt().inputs
    with pytest.raises(UnsupportedGenerationError, match=message), attach(model, spec):
        model.generate(**inputs, **{**STATIC, **more})


def test_a_cache_that_is_too_short(model):
    cache = StaticCache(config=model.config.text_config, max_cache_len=40)
    with (
        pytest.raises(UnsupportedGenerationError, match="has 40 slots and the prompt 46 columns"),
        attach(model, "random"),
    ):
        model.generate(**prompt(4), **GREEDY, **caching(model, cache))


def test_it_grows_in_its_block_only(model):
    inputs = prompt(4)
    with attach(model, "random"):
        first = model.generate(**inputs, **compiled(), max_cache_len=99)
        other = copy.deepcopy(filled_cache(first))
        with pytest.raises(UnsupportedGenerationError, match="inside the attach block"):
            turn(model, first.sequences, inputs, other)
        with pytest.raises(UnsupportedGenerationError, match="inside the attach block"):
            turn(llava_onevision(1), first.sequences, inputs, filled_cache(first))
        turn(model, first.sequences, inputs, filled_cache(first))
    with pytest.raises(UnsupportedGenerationError, match="inside the attach block"):
        turn(model, first.sequences, inputs, filled_cache(first))


class Leaving:
    """A streamer that ends the session at a token."""

    def __init__(self, session: Any, token: int) -> None:
        self._session, self._left = session, token

    def put(self, value: Any) -> None:
        self._left -= 1
        if not self._left:
            self._session.stop()

    def end(self) -> None:
        pass


def test_an_answer_does_not_go_on_when_the_block_has_ended(model):
    """Compiled code asks for nothing of ours but the cache, which says so itself."""
    session = attach(model, "random").start()
    settings = compiled()
    settings["compile_config"].fullgraph = False
    with pytest.raises(UnsupportedGenerationError, match="inside the attach block"):
        model.generate(**prompt(4), **settings, streamer=Leaving(session, 4))


def test_padding_is_text_and_words_alone_pass_through(model):
    ids = torch.randint(8, 64, (2, 6))
    ids[0, :2] = PAD
    words = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    expected = model.generate(**words, **GREEDY)
    with attach(model, "random"):
        assert torch.equal(model.generate(**words, **compiled()).sequences, expected)


def test_layers_are_ours_where_something_is_compressed(model):
    with attach(model, "random"):
        made = model.generate(**prompt(4), **STATIC, return_dict_in_generate=True)
    assert {type(layer) for layer in filled_cache(made).layers} == {FixedLayer}
