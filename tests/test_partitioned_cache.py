"""Hidden rows apart from visible ones: the same answers as a mask over all rows, and nothing moved
without need.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from arbitrary import seeds
from hypothesis import given
from hypothesis import strategies as st
from models import llava_onevision, prompt
from torch import Tensor

from tokenprune import attach, build
from tokenprune.adapters import VideoLLM
from tokenprune.compat import caching, filled_cache
from tokenprune.runtime.partitioned_cache import ROOM, Partition, PartitionedLayer, reveal
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.strategy import DecodeStage, Pipeline
from tokenprune.tokens import SequenceView

STEPS = 8
RAGGED = ((4, 5), (1, 9), (7, 2))


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request):
    return llava_onevision(attention=request.param)


@dataclass(frozen=True)
class Erratic(DecodeStage[int]):
    """Other rows in every step, other numbers of them, sometimes the same as before, sometimes all
    or none.
    """

    layer: int = 2
    seed: int = 0
    offload: bool = False

    def start(self) -> int:
        return 0

    def attend(self, view: SequenceView, state: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(100 * self.seed + state // 2)
        share = torch.rand((), generator=generator) * 1.4 - 0.2
        return ~view.visual | (torch.rand(len(view.frame), generator=generator) < share), state + 1


@pytest.fixture
def by_mask(monkeypatch):
    """The reference: nothing moves, and a mask over all cached rows hides what is not seen."""

    def switch() -> None:
        def show(self: Partition, layers: Any, visible: Tensor, gaps: bool = False) -> Any:
            self.step(visible, gaps)  # says what has changed
            return None if visible.all() else visible

        monkeypatch.setattr(Partition, "show", show)
        monkeypatch.setattr(VideoLLM, "spares_mask", lambda _: False)

    return switch


def outcome(model, pipeline: Pipeline, inputs) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Logits of every step and reports, of a first turn and of a second one of several new ids."""
    settings = {
        "max_new_tokens": STEPS,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    more = torch.arange(8, 13).expand(len(inputs["input_ids"]), -1)
    with attach(model, pipeline) as session:
        first = model.generate(**inputs, **settings)
        ids = torch.cat([first.sequences, more], dim=1)
        tail = torch.ones(len(ids), ids.shape[1] - inputs["input_ids"].shape[1]).long()
        mask = torch.cat([inputs["attention_mask"], tail], dim=1)
        second = model.generate(
            input_ids=ids, attention_mask=mask, **caching(model, filled_cache(first)), **settings
        )
    return [*first.logits, *second.logits], [
        sample.as_dict() for sample in session.report.samples if sample
    ]


PIPELINES = {
    "dycoke": build("dycoke", {"dycoke.merge": 0.3}),
    "renewed": build("dycoke", {"dycoke.threshold": 2.0}),
    "released": build("dycoke", {"dycoke.follow": "released", "dycoke.threshold": 0.97}),
    "nothing hidden": build("dycoke", {"dycoke.prune": 0.0}),
    "all hidden": build("dycoke", {"dycoke.prune": 1.0}),
    "above fastv": build(
        "fastv+dycoke", {"fastv.layer": 1, "dycoke.merge": 0.0, "dycoke.layer": 3}
    ),
    "below fastv": build(
        "fastv+dycoke", {"fastv.layer": 3, "dycoke.merge": 0.0, "dycoke.layer": 2}
    ),
    "erratic": build("none") + Erratic(),
    "erratic below fastv": build("fastv", {"fastv.layer": 4}) + Erratic(seed=1),
}


@pytest.mark.parametrize("texts", [((4, 5),), RAGGED], ids=["one", "ragged"])
@pytest.mark.parametrize("name", PIPELINES)
def test_swapping_rows_equals_masking_them(model, by_mask, name, texts):
    inputs = prompt(5, texts)
    logits, reports = outcome(model, PIPELINES[name], inputs)
    stages = [
        type(s)(**{**vars(s), "offload": True}) if isinstance(s, DecodeStage) else s
        for s in PIPELINES[name].strategies
    ]
    away, away_reports = outcome(model, Pipeline(tuple(stages)), inputs)
    by_mask()
    expected, expected_reports = outcome(model, PIPELINES[name], inputs)
    assert all(torch.allclose(a, b, atol=2e-4) for a, b in zip(logits, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(logits, away, strict=True))
    assert reports == away_reports == expected_reports


@pytest.mark.parametrize("offload", [False, True])
def test_a_batch_that_hides_unequal_numbers_equals_its_samples(model, offload):
    """A text-only sample hides nothing, and erratic ones whatever they like."""
    pipeline = build("none") + Erratic(seed=3, offload=offload)
    inputs, settings = prompt(4, ((4, 5),)), {"max_new_tokens": STEPS, "do_sample": False}
    words = torch.arange(8, 19)[None]
    ids = torch.cat(
        [
            inputs["input_ids"],
            torch.nn.functional.pad(words, (inputs["input_ids"].shape[1] - 11, 0)),
        ]
    )
    with attach(model, pipeline):
        alone = model.generate(**inputs, **settings)
        mixed = model.generate(
            input_ids=ids,
            attention_mask=(ids != 0).long(),
            pixel_values_videos=inputs["pixel_values_videos"],
            **settings,
        )
    assert torch.equal(mixed[0], alone[0])
    assert torch.equal(mixed[1, -STEPS:], model.generate(input_ids=words, **settings)[0, -STEPS:])


def test_the_cache_is_whole_again_for_a_step_of_several_tokens(model):
    inputs, word = prompt(5), torch.tensor([[9]])
    caches, length = [], inputs["input_ids"].shape[1] + 2
    for prune in (0.7, 0.0):
        with attach(model, "dycoke", {"dycoke.prune": prune, "dycoke.merge": 0.0}), torch.no_grad():
            cache: Any = filled_cache(model(**inputs))
            for _ in range(2):
                model(input_ids=word, **caching(model, cache))
            hidden = 45 - 13 if prune else 0
            assert [layer.keys.shape[2] for layer in cache.layers] == [length] * 3 + [
                length - hidden
            ] * 2
            assert [cache.get_seq_length(layer) for layer in range(5)] == [length] * 5
            model(input_ids=word.expand(1, 2), **caching(model, cache))
        caches.append(cache)
    for one, other in zip(*(cache.layers for cache in caches), strict=True):
        assert one.keys.shape == other.keys.shape
        # rows of the prompt are the same; those of later words saw other rows
        assert torch.allclose(one.keys[:, :, : length - 2], other.keys[:, :, : length - 2])


@pytest.mark.parametrize("offload", [False, True])
def test_a_cache_filled_in_inference_mode_goes_on_outside(model, offload):
    inputs, word = prompt(5), torch.tensor([[9]])
    logits = []
    for mode in (torch.inference_mode, torch.no_grad):
        with attach(model, "dycoke", {"dycoke.offload": offload}):
            with mode():
                cache = filled_cache(model(**inputs))
                model(input_ids=word, **caching(model, cache))
            with torch.no_grad():
                for ids in (word, word, torch.tensor([[9, 8]]), word):
                    logits.append(model(input_ids=ids, **caching(model, cache)).logits)
    assert all(torch.equal(a, b) for a, b in zip(logits[:4], logits[4:], strict=True))


# changes


@dataclass(frozen=True)
class Watched(DecodeStage[Any]):
    """DyCoke's selections, written down."""

    stage: DyCoke
    seen: list[list[int]]
    layer: int = 3

    def start(self) -> Any:
        return self.stage.start()

    def attend(self, view: SequenceView, state: Any) -> tuple[Tensor, Any]:
        visible, state = self.stage.attend(view, state)
        self.seen.append((visible & view.visual).nonzero().flatten().tolist())
        return visible, state


@pytest.mark.parametrize("threshold", [-1.0, 0.9, 0.99, 2.0])
def test_changes_of_the_selection_are_counted(model, threshold):
    watched = Watched(DyCoke(threshold=threshold), [])
    with attach(model, build("none") + watched) as session:
        model.generate(**prompt(6), max_new_tokens=STEPS, do_sample=False)
    changes = sum(a != b for a, b in pairwise(watched.seen))
    assert (
        session.report[0].decode_changes == changes == session.report[0].as_dict()["decode_changes"]
    )
    assert changes == 0 if threshold < 0 else changes <= STEPS - 2


def test_nothing_changes_without_a_decode_stage(model):
    with attach(model, "fastv") as session:
        model.generate(**prompt(4), max_new_tokens=3, do_sample=False)
    assert session.report[0].decode_changes == 0


# the storage


def rows(batch: int, first: int, number: int) -> tuple[Tensor, Tensor]:
    """Keys and values that say which sample and column they are."""
    column = torch.arange(first, first + number).float()
    key = (
        (1000 * torch.arange(batch)[:, None] + column)
        .view(batch, 1, number, 1)
        .expand(-1, 2, -1, 3)
    )
    return key.contiguous(), -key[..., :2].contiguous()


def addresses(layer: PartitionedLayer) -> list[int]:
    assert layer.keys is not None
    assert layer.values is not None
    return [part.untyped_storage().data_ptr() for part in (layer.keys, layer.values)]


def check_view(
    layer: PartitionedLayer, keys: Tensor, values: Tensor, mask: Tensor | None, visible: Tensor
) -> None:
    """Every sample finds exactly its visible rows, in any order, and values with their keys."""
    assert torch.equal(keys[..., :2], -values)
    assert layer.get_seq_length() == visible.shape[1]
    start = visible.shape[1] - keys.shape[2]
    shown = (
        torch.ones(len(visible), keys.shape[2], dtype=torch.bool)
        if mask is None
        else mask[:, start:]
    )
    assert mask is None or not bool(mask[:, :start].any())
    for sample, wanted in enumerate(visible):
        columns = keys[sample, 0, shown[sample], 0] - 1000 * sample
        assert sorted(columns.tolist()) == wanted.nonzero().flatten().tolist()


@given(st.data(), seeds, st.integers(1, 3), st.integers(1, 20), st.booleans())
def test_any_sequence_of_selections_and_turns(
    data, seed: int, batch: int, length: int, offload: bool
) -> None:
    generator, layer = torch.Generator().manual_seed(seed), PartitionedLayer(offload)
    layer.update(*rows(batch, 0, length))
    visible = torch.ones(batch, length, dtype=torch.bool)
    partition = Partition()
    for _ in range(data.draw(st.integers(1, 6))):
        action = data.draw(st.sampled_from(["same", "other", "all", "turn"]))
        if action == "turn":
            reveal([layer])
            partition.reveal()
            more = data.draw(st.integers(1, 3))
            assert layer.get_mask_sizes(more) == (length + more, 0)
            keys, values = layer.update(*rows(batch, length, more))
            length += more
            assert torch.equal(keys, rows(batch, 0, length)[0])
            visible = torch.nn.functional.pad(visible, (0, more), value=True)
            continue
        if action == "other":
            visible = torch.rand(visible.shape, generator=generator) < data.draw(
                st.sampled_from([0.1, 0.5, 0.9])
            )
        elif action == "all":
            visible = torch.ones_like(visible)
        own = torch.rand(batch, 1, generator=generator) < 0.9
        visible = torch.cat([visible, own], dim=1)
        mask = partition.show([layer], visible, gaps=True)
        width, first = layer.get_mask_sizes(1)
        keys, values = layer.update(*rows(batch, length, 1))
        length += 1
        assert (keys.shape[2], first) == (width, length - width)
        check_view(layer, keys, values, mask, visible)
        if offload:
            assert layer._store.rows <= width + layer._store.room
            assert sum(part.shape[2] for part in layer._host) == 2 * first


@given(seeds, st.integers(2, 40), st.integers(0, 40))
def test_only_what_changes_is_swapped(seed: int, length: int, number: int) -> None:
    """Two selections of the same size: as many pairs as rows that came, and every other row stays
    in its slot.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        (torch.rand(1, length, generator=generator).argsort() < number).logical_or(
            torch.arange(length) == length - 1
        )
        for _ in range(2)
    )
    partition, own = Partition(), torch.ones(1, 1, dtype=torch.bool)
    partition.step(torch.cat([first, own], 1))
    before = partition._order
    swap, _ = (
        partition.step(torch.cat([second, own], 1))
        if int(first.sum()) == int(second.sum())
        else (None, None)
    )
    if swap is not None:
        came = int((second & ~first).sum())
        assert swap.moves.shape == (3, 2 * came)
        assert int((swap.order != before).sum()) == 2 * came
    assert partition._visible is not None
    again, _ = partition.step(torch.cat([partition._visible, own, own], 1))
    assert again is None


def test_no_storage_is_made_between_growths() -> None:
    layer, plain = PartitionedLayer(), PartitionedLayer()
    for one in (layer, plain):
        one.update(*rows(2, 0, 50))
    visible, places, generator = (
        torch.ones(2, 50, dtype=torch.bool),
        set(),
        torch.Generator().manual_seed(0),
    )
    before: list[int] = []
    partition = Partition()
    for step in range(6 * ROOM):
        if step % 5 == 0:
            visible[:, 5:40] = torch.rand(35, generator=generator) < 0.5
        visible = torch.nn.functional.pad(visible, (0, 1), value=True)
        partition.show([layer], visible)
        layer.update(*rows(2, 50 + step, 1))
        plain.update(*rows(2, 50 + step, 1))
        places.add((*addresses(layer), layer._store.rows))
        before = before or addresses(plain)
        if step < ROOM:
            assert addresses(plain) == before
    # room for 128, 256 and 512 rows behind those that were there
    assert sorted(place[2] for place in places) == [50 + ROOM, 51 + 3 * ROOM, 52 + 7 * ROOM]


def test_reset_forgets_everything() -> None:
    visible, layer = torch.arange(10)[None] > 4, PartitionedLayer(offload=True)
    layer.update(*rows(1, 0, 9))
    Partition().show([layer], visible)
    layer.update(*rows(1, 9, 1))
    layer.gone = 4
    layer.show(None)
    assert (layer.get_seq_length(), layer.get_mask_sizes(3)) == (14, (8, 9))
    layer.reset()
    assert (layer.get_seq_length(), layer.get_mask_sizes(3)) == (0, (3, 0))
    assert torch.equal(layer.update(*rows(1, 0, 2))[0], rows(1, 0, 2)[0])
