"""Static caches: transformers' own compiled step runs on what is left of a prompt.

The backend needs no compiler, and a break of the graph is an error. Before torch 2.7 or so the
stock model cannot be compiled as a whole either.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from compiling import GREEDY, STATIC, STEPS, compiled, graphs
from families import FAMILIES
from models import PAD, llava_onevision, prompt
from offenders import Hider
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters
from transformers.cache_utils import StaticCache

from tokenprune import attach, build
from tokenprune.compat import caching, filled_cache
from tokenprune.errors import StrategyError, UnsupportedGenerationError
from tokenprune.strategy import Pipeline

DEPTH = 4
RAGGED = ((4, 5), (2, 3))


def filling(cache: Any, model: Any) -> dict[str, Any]:
    """The same with a caller's own cache."""
    return {**compiled(cache_implementation=None), **caching(model, cache)}


@pytest.fixture(scope="module")
def model() -> Any:
    return llava_onevision(depth=DEPTH)


@pytest.fixture(scope="module")
def whole() -> bool:
    """Whether torch can compile the stock model."""
    with suppress(TorchDynamoException):
        llava_onevision(depth=1, tower_depth=1).generate(**prompt(1), **compiled())
        return True
    return False


@pytest.fixture(autouse=True)
def nothing_compiled(whole: bool) -> Iterator[None]:
    if not whole:
        pytest.skip("this torch cannot compile the stock model as a whole")
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


SPECS = {
    "none": {},
    # counts of its own, positions moved up, fewer rows from a layer up
    "prumerge+fastv": {"fastv.layer": 2},
    "prunevid": {"prunevid.layer": 2},  # layers below forget rows, too
    "framefusion": {"framefusion.cost": 0.6},  # several events, rows merged, original positions
    "dytok+visionzip": {"dytok.layers": [1, 2]},
}


@pytest.mark.parametrize("spec", SPECS)
def test_tokens_are_those_of_the_dynamic_cache(model, spec):
    """Of a ragged batch, compiled as one graph, in layers as long as what is left of it."""
    with attach(model, build(spec, SPECS[spec])) as session:
        expected = model.generate(**prompt(4, RAGGED), **GREEDY)
        found = model.generate(**prompt(4, RAGGED), **STATIC)
        assert torch.equal(found, expected), "one step at a time"
        made = model.generate(**prompt(4, RAGGED), **compiled())
    assert torch.equal(made.sequences, expected)
    assert graphs() == 1
    dynamic, _, fixed = session.reports
    for sample in range(len(RAGGED)):
        assert dynamic[sample].as_dict() == fixed[sample].as_dict(), "steps are counted, too"
    assert len(fixed[0].decode) == STEPS - 1
    # video, its newline and words of the longer sample; generate does not cache the last token
    beside = 1 + max(map(sum, RAGGED)) + STEPS - 1
    last = max(fixed[sample].layers[-1] for sample in range(len(RAGGED)))
    seen = [last] * DEPTH if spec == "prunevid" else fixed[0].layers
    cache: Any = filled_cache(made)
    slots = [layer.keys.shape[2] for layer in cache.layers]
    assert all(n in (kept + beside, kept + beside - 4) for n, kept in zip(slots, seen, strict=True))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_families(kind):
    model, inputs = FAMILIES[kind].model(), FAMILIES[kind].prompt().inputs
    with attach(model, build("random+fastv", {"fastv.layer": 2})):
        expected = model.generate(**inputs, **GREEDY)
        made = model.generate(**inputs, **compiled())
    assert torch.equal(made.sequences, expected)
    assert graphs() == 1


def test_eager_attention_in_half_precision():
    model = llava_onevision(depth=DEPTH, attention="eager").to(torch.bfloat16)
    inputs = prompt(4, RAGGED)
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(torch.bfloat16)
    with attach(model, build("visionzip+fastv", {"fastv.layer": 2})):
        expected = model.generate(**inputs, **GREEDY)
        assert torch.equal(model.generate(**inputs, **compiled()).sequences, expected)


def test_one_graph_for_prompts_and_sessions_of_a_kind(model):
    """A second one where lengths differ, in which they are variables, and then no more."""
    for keep in (0.25, 0.5):
        with attach(model, build("random", {"random.keep": keep})):
            for words in (5, 9, 2):
                inputs = prompt(4, ((4, words),))
                expected = model.generate(**inputs, **GREEDY)
                assert torch.equal(model.generate(**inputs, **compiled()).sequences, expected)
    assert graphs() == 2
    stock = model.generate(**prompt(4), **GREEDY)
    assert torch.equal(model.generate(**prompt(4), **compiled()).sequences, stock), "after it"


def test_a_graph_belongs_to_the_layers_that_it_narrows(model):
    for layer in (2, 1):
        with attach(model, build("fastv", {"fastv.layer": layer})):
            expected = model.generate(**prompt(4), **GREEDY)
            assert torch.equal(model.generate(**prompt(4), **compiled()).sequences, expected)


def test_beams(model):
    with attach(model, build("random+fastv", {"fastv.layer": 2})):
        expected = model.generate(**prompt(4, RAGGED), **GREEDY, num_beams=2)
        found = model.generate(**prompt(4, RAGGED), **compiled(), num_beams=2)
    assert torch.equal(found.sequences, expected)


HIDING = {"dycoke.layer": 2}


@pytest.mark.parametrize(("asks", "backend"), [(((4, 5),), "eager"), (RAGGED, "aot_eager")])
def test_a_decode_stage_shows_as_many_rows_in_every_step(model, asks, backend):
    """Its choice is one operation of the graph; layers from its own up hand on what it shows.

    A backend with functions only (compilers begin with it) gives operations copies of what they
    write.
    """
    options, long = {**HIDING, "dycoke.prune": 0.5}, {"max_new_tokens": 9}
    with attach(model, build("dycoke", options)) as session:
        expected = model.generate(**prompt(4, asks), **{**GREEDY, **long})
        assert torch.equal(model.generate(**prompt(4, asks), **{**STATIC, **long}), expected)
        made = model.generate(**prompt(4, asks), **{**compiled(backend), **long})
    assert torch.equal(made.sequences, expected)
    assert graphs() == 1
    dynamic, _, fixed = session.reports
    for sample in range(len(asks)):
        assert dynamic[sample].as_dict() == fixed[sample].as_dict()
        assert dynamic[sample].decode_changes > 0
    cache: Any = filled_cache(made)
    lengths = [layer.slots for layer in cache.layers]
    rows = fixed[0].layers[0] - fixed[0].decode[0]
    assert lengths[2] <= lengths[1] - rows + 2 and lengths[2:] == [lengths[2]] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dycoke.follow": "released"}, "does not show as many rows in every step"),
        ({"dycoke.offload": True}, "if nothing is offloaded"),
    ],
)
def test_a_decode_stage_that_cannot(model, options, message):
    frames = 6 if "dycoke.follow" in options else 4
    with (
        pytest.raises(UnsupportedGenerationError, match=message),
        attach(model, build("dycoke", {**HIDING, **options})),
    ):
        model.generate(**prompt(frames), **STATIC)


@pytest.mark.parametrize("steps", [0, 3])
def test_a_decode_stage_is_held_to_the_contract(model, steps):
    """Also in later steps, which are operations of the graph."""

    def attend(view: Any, state: Any) -> Any:
        text = ~view.visual
        hidden = torch.where(state < steps, view.visual, text).long().argmax()
        return torch.arange(len(text)) != hidden, state + 1

    stage: Any = Hider(attend, lambda: torch.zeros((), dtype=torch.long))
    with (
        pytest.raises(StrategyError, match=r"Hider\.attend hid text rows"),
        attach(model, Pipeline((stage,))),
    ):
        model.generate(**prompt(4), **compiled())


def test_a_further_turn_behind_a_decode_stage_is_refused(model):
    inputs = prompt(4)
    with attach(model, build("dycoke", HIDING)):
        first = model.generate(**inputs, **compiled(), max_cache_len=99)
        with pytest.raises(UnsupportedGenerationError, match="a further turn sees what a decode"):
            turn(model, first.sequences, inputs, filling(filled_cache(first), model))


# a caller's own cache


def turn(model: Any, sequences: Any, inputs: Any, settings: dict[str, Any]) -> Any:
    """A second question behind an answer."""
    question = torch.arange(len(sequences) * 3).view(-1, 3) % 50 + 8
    ids = torch.cat([sequences, question], dim=1)
    mask = inputs["attention_mask"]
    mask = torch.cat([mask, mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=1)
    return model.generate(input_ids=ids, attention_mask=mask, **settings)


def test_a_second_turn(model):
    inputs = prompt(4, RAGGED)
    length = inputs["input_ids"].shape[1] + 2 * STEPS + 3
    with attach(model, build("visionzip+fastv", {"fastv.layer": 2})) as session:
        first = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
        behind = {**GREEDY, **caching(model, filled_cache(first))}
        expected = turn(model, first.sequences, inputs, behind)
        cache = StaticCache(config=model.config.text_config, max_cache_len=length)
        made = model.generate(**inputs, **filling(cache, model))
        assert filled_cache(made) is cache, "the caller's object fills"
        found = turn(model, made.sequences, inputs, filling(cache, model))
        assert torch.equal(found.sequences, expected)
        with pytest.raises(UnsupportedGenerationError, match=r"room for 1 more tokens and gets 4"):
            turn(model, found.sequences, inputs, filling(cache, model))
    one, other = session.reports[0][0], session.reports[1][0]
    assert one.decode == other.decode
    other.end(3)
    assert other.decode == one.decode[:3] == other.decode


def test_a_cache_is_used_again_after_a_reset(model):
    cache = StaticCache(config=model.config.text_config, max_cache_len=90)
    with attach(model, "random"):
        for seed in (0, 1):
            inputs = prompt(4, ((4 + seed, 5),), seed=seed)
            expected = model.generate(**inputs, **GREEDY)
            found = model.generate(**inputs, **filling(cache, model))
            assert torch.equal(found.sequences, expected)
            with pytest.raises(UnsupportedGenerationError, match="behind a filled cache"):
                model(**inputs, **caching(model, cache))
            cache.reset()
    expected = model.generate(**prompt(4), **GREEDY)
    found = model.generate(**prompt(4), **GREEDY, **caching(model, cache))
    assert torch.equal(found, expected), "as long as it was, without a session"


def test_it_grows_in_its_block_only(model):
    inputs, refused = (
        prompt(4),
        pytest.raises(UnsupportedGenerationError, match="inside the attach"),
    )
    with attach(model, "random"):
        first = model.generate(**inputs, **compiled(), max_cache_len=99)
        cache = filled_cache(first)
        with refused:
            turn(model, first.sequences, inputs, filling(copy.deepcopy(cache), model))
        with refused:
            turn(llava_onevision(1, DEPTH), first.sequences, inputs, filling(cache, model))
        turn(model, first.sequences, inputs, filling(cache, model))
    with refused:
        turn(model, first.sequences, inputs, filling(cache, model))


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


def test_words_alone_pass_through(model):
    ids = torch.randint(8, 64, (2, 6))
    ids[0, :2] = PAD
    words = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    expected = model.generate(**words, **GREEDY)
    with attach(model, "random"):
        assert torch.equal(model.generate(**words, **compiled()).sequences, expected)


# what is refused


@pytest.mark.parametrize(
    ("kind", "how", "message"),
    [
        ("gemma3", "static", "sliding window"),
        ("llava_video", "offloaded_static", "moves whole layers"),
    ],
)
def test_caches_that_cannot(kind, how, message):
    model, inputs = FAMILIES[kind].model(), FAMILIES[kind].prompt().inputs
    with pytest.raises(UnsupportedGenerationError, match=message), attach(model, "random"):
        model.generate(**inputs, **GREEDY, cache_implementation=how)


def test_a_cache_that_is_too_short(model):
    cache = StaticCache(config=model.config.text_config, max_cache_len=40)
    with (
        pytest.raises(UnsupportedGenerationError, match="has 40 slots and the prompt 46 columns"),
        attach(model, "random"),
    ):
        model.generate(**prompt(4), **GREEDY, **caching(model, cache))
