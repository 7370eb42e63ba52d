"""Laws that hold for every strategy in the registry and any input; a new strategy is covered by
being registered.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import arbitrary
import pytest
import torch
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from laws import (
    Sources,
    alone,
    check_allocator,
    check_condense,
    check_decode,
    check_merger,
    check_prefill,
    check_reuser,
    check_vision,
)
from torch import Tensor

from tokenprune import ops, registry
from tokenprune.errors import StrategyError
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategies.uniform import Uniform
from tokenprune.strategy import (
    Allocator,
    Condenser,
    DecodeStage,
    Pipeline,
    PrefillStage,
    Strategy,
    TowerMerger,
    TowerReuser,
    TowerStage,
    VisionStage,
)
from tokenprune.testing.vision import wanted


def dycoke_references(frame: int) -> set[int]:
    """In a window f0 f1 f2 f3 f1 and f2 look at f0, f3 at f2, f0 at the f0 before; the first of all
    at f1.
    """
    return {
        {0: frame - 4 if frame >= 4 else 1, 1: frame - 1, 2: frame - 2, 3: frame - 1}[frame % 4]
    }


# Of strategies that mix frames, the other frames that each one looks at. The others may look at
# all of them; a strategy that does not mix may look at none.
SOURCES: dict[str, Sources] = {"dycoke": dycoke_references}


def sources(kind: type[Strategy]) -> Sources:
    if not kind.mixes_frames:
        return alone
    return SOURCES.get(kind.name, lambda frame: {*range(64)})


def implementing(stage: type) -> list[Any]:
    return [
        pytest.param(kind, id=name)
        for name in registry.names()
        if issubclass(kind := registry.get(name), stage)
    ]


def configured(data: st.DataObject, kind: type[Strategy], frames: int | None = None) -> Any:
    strategy = data.draw(arbitrary.configured(kind))
    # the released code fails here, and so does ours
    if kind.name == "dycoke" and frames is not None and frames <= 4:
        assume(getattr(strategy, "follow") != "released")  # noqa: B009
    return strategy


def capped(data: st.DataObject, kind: type[Allocator]) -> Any:
    strategy = configured(data, kind)
    has_cap = any(field.name == "cap" for field in dataclasses.fields(strategy))
    return (
        dataclasses.replace(strategy, cap=data.draw(st.none() | st.integers(1, 30)))
        if has_cap
        else strategy
    )


def hosts(stage: type) -> list[Any]:
    """The strategies of a stage that take an allocator's budget."""
    kinds = [case.values[0] for case in implementing(stage)]
    return [kind for kind in kinds if kind.reallocates and not issubclass(kind, Condenser)]


def test_every_strategy_has_a_stage() -> None:
    stages = (Allocator, VisionStage, Condenser, PrefillStage, DecodeStage, TowerStage)
    assert set(registry.names()) == {case.id for stage in stages for case in implementing(stage)}


@pytest.mark.parametrize("kind", implementing(VisionStage))
@given(st.data())
def test_vision(kind: type[VisionStage], data: st.DataObject) -> None:
    tokens = data.draw(arbitrary.visual_tokens(data.draw(st.sampled_from(arbitrary.DTYPES))))
    strategy = configured(data, kind, tokens.frames)
    if wanted(strategy).grid is not None:
        tokens = dataclasses.replace(tokens, room=data.draw(st.integers(1, tokens.cells)))
    budget = data.draw(arbitrary.budgets(tokens.available))
    disturbed = data.draw(st.integers(0, tokens.frames - 1))
    adaptive = kind.name == "prumerge" and getattr(strategy, "keep") is None  # noqa: B009
    check_vision(strategy, tokens, budget, disturbed, sources(kind), adaptive)


@pytest.mark.parametrize("kind", implementing(PrefillStage))
@given(st.data())
def test_prefill(kind: type[PrefillStage], data: st.DataObject) -> None:
    strategy = configured(data, kind)
    view = data.draw(arbitrary.sequence_views(stage=strategy))
    budget = data.draw(arbitrary.budgets(view.counts))
    disturbed = data.draw(st.integers(0, view.frames - 1))
    try:
        check_prefill(strategy, view, budget, disturbed)
    except StrategyError:  # what it refuses in words is no matter of the laws
        reject()


@pytest.mark.parametrize("kind", implementing(Condenser))
@given(st.data())
def test_condense(kind: type[Condenser], data: st.DataObject) -> None:
    tokens = data.draw(arbitrary.visual_tokens(data.draw(st.sampled_from(arbitrary.DTYPES))))
    strategy = configured(data, kind, tokens.frames)
    check_condense(strategy, tokens, data.draw(st.integers(0, tokens.frames - 1)))


@pytest.mark.parametrize("kind", implementing(DecodeStage))
@given(st.data())
def test_decode(kind: type[DecodeStage], data: st.DataObject) -> None:
    check_decode(
        configured(data, kind), data.draw(arbitrary.decodings()), data.draw(arbitrary.decodings())
    )


@pytest.mark.parametrize("kind", implementing(TowerMerger))
@given(st.data())
def test_tower_merger(kind: type[TowerMerger], data: st.DataObject) -> None:
    frames, rows, width = (data.draw(st.integers(*ends)) for ends in ((1, 4), (4, 40), (1, 8)))
    try:
        check_merger(configured(data, kind), data.draw(st.integers(0, 99)), (frames, rows, width))
    except StrategyError:  # what it refuses in words is no matter of the laws
        reject()


@pytest.mark.parametrize("kind", implementing(TowerReuser))
@given(st.data())
def test_tower_reuser(kind: type[TowerReuser], data: st.DataObject) -> None:
    frames, patches, width = (data.draw(st.integers(*ends)) for ends in ((1, 6), (1, 9), (1, 8)))
    check_reuser(configured(data, kind), data.draw(st.integers(0, 99)), (frames, patches, width))


@pytest.mark.parametrize("kind", implementing(Allocator))
@given(st.data())
def test_allocator_with_vision_host(kind: type[Allocator], data: st.DataObject) -> None:
    tokens = data.draw(arbitrary.visual_tokens())
    host = configured(data, data.draw(st.sampled_from(hosts(VisionStage))), tokens.frames)
    check_allocator(capped(data, kind), data.draw(arbitrary.probes(tokens.frames)), host, tokens)


@pytest.mark.parametrize("kind", implementing(Allocator))
@given(st.data())
def test_allocator_with_prefill_host(kind: type[Allocator], data: st.DataObject) -> None:
    host = configured(data, data.draw(st.sampled_from(hosts(PrefillStage))))
    view = data.draw(arbitrary.sequence_views(stage=host))
    check_allocator(capped(data, kind), data.draw(arbitrary.probes(view.frames)), host, view)


@given(st.data())
def test_keep_top(data: st.DataObject) -> None:
    """keep_top marks exactly k, never an invalid entry while a valid one is left, and ties by lower
    index.
    """
    rows, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    entry = st.tuples(st.sampled_from([-1.0, 0.0, 0.5, float("-inf")]), st.booleans())
    entries = data.draw(st.lists(entry, min_size=rows * width, max_size=rows * width))
    scores = torch.tensor([score for score, _ in entries]).view(rows, width)
    valid = torch.tensor([real for _, real in entries]).view(rows, width)
    number = torch.stack([torch.tensor(data.draw(st.integers(0, int(n)))) for n in valid.sum(-1)])
    kept = ops.keep_top(scores, number, valid)
    for row, limit, mask, score in zip(kept, number, valid, scores, strict=True):
        places = sorted(
            mask.nonzero().flatten().tolist(), key=lambda place: (-float(score[place]), place)
        )
        assert sorted(places[: int(limit)]) == row.nonzero().flatten().tolist()
        # one number for all rows takes another way
        assert torch.equal(ops.keep_top(score, int(limit), mask), row)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_keep_top_marks_as_many_also_of_what_is_no_number(number: int) -> None:
    nan, infinite = float("nan"), float("inf")
    for scores in ([nan, infinite, -infinite, 1.0], [nan] * 4, [-infinite] * 4):
        kept = ops.keep_top(torch.tensor([scores, [1.0, 2.0, 2.0, 2.0]]), number)
        assert kept.sum(-1).tolist() == [number, number]
        assert kept[1].nonzero().flatten().tolist() == sorted([1, 2, 3, 0][:number])


# --- apportioning
# ----------------------------------------------------------------------------------


def by_hand(weights: Tensor, total: int, cap: list[int], follow: str) -> list[int]:
    """Algorithm 1 as written: the loops that `ops.apportion` has in closed form."""
    ideal = weights / weights.sum() * total
    share = [int(x) for x in ideal.floor()]
    remainder = [float(x) for x in ideal - ideal.floor()]
    order = sorted(range(len(share)), key=lambda f: (-remainder[f], f))
    left = total - sum(share)
    while left > 0:
        for f in order:
            if left and (follow == "released" or share[f] < cap[f]):
                share[f], left = share[f] + 1, left - 1
    excess = sum(max(0, s - c) for s, c in zip(share, cap, strict=True))
    share = [min(s, c) for s, c in zip(share, cap, strict=True)]
    while excess > 0:
        for f in sorted(range(len(share)), key=lambda f: (-float(weights[f]), f)):
            if excess and share[f] < cap[f]:
                share[f], excess = share[f] + 1, excess - 1
    return share


@given(st.data(), st.sampled_from(["paper", "released"]))
@settings(max_examples=100)
def test_apportion_is_algorithm_1(data: st.DataObject, follow: Any) -> None:
    frames = data.draw(st.integers(1, 64))
    cap = data.draw(
        st.lists(st.integers(0, 196), min_size=frames, max_size=frames) | st.just([196] * frames)
    )
    total = data.draw(st.integers(0, sum(cap)))
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    weights = (
        data.draw(st.sampled_from([0.1, 1, 4])) * torch.randn(frames, generator=generator)
    ).exp()
    budget = ops.apportion(weights, total, torch.tensor(cap), follow)
    assert int(budget.sum()) == total
    assert bool((budget <= torch.tensor(cap)).all())
    assert bool((budget >= 0).all())
    if int((weights / weights.sum() * total).floor().sum()) <= total:
        assert budget.tolist() == by_hand(weights, total, cap, follow)


@given(arbitrary.seeds, st.integers(1, 64), st.integers(0, 196), st.sampled_from([49, 98, 196]))
def test_permuting_frames_permutes_the_budget(
    seed: int, frames: int, average: int, cap: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights, order = (
        torch.randn(frames, generator=generator).exp(),
        torch.randperm(frames, generator=generator),
    )
    tokens = arbitrary.blank(frames, 196)
    pipeline = Uniform(keep=min(average, cap) / 196) + DyToK(cap=cap)
    host = pipeline.of(VisionStage)[0]
    ideal = weights / weights.sum() * int(host.quota(tokens).sum())
    assume(len((ideal - ideal.floor()).unique()) == frames == len(weights.unique()))  # no ties
    weights = weights / weights.sum()  # so that the order of the sum does not matter
    assume(float(weights[order].sum()) == float(weights.sum()))
    budget = pipeline.budget(host, tokens, weights)
    assert torch.equal(pipeline.budget(host, tokens, weights[order]), budget[order])


@given(st.integers(1, 64), st.integers(0, 196))
def test_uniform_weights_give_equal_budgets(frames: int, average: int) -> None:
    tokens, host = arbitrary.blank(frames, 196), Uniform(keep=average / 196)
    assert (host + DyToK()).budget(host, tokens, torch.ones(frames) / 3).tolist() == [
        average
    ] * frames
    assert ops.evenly(frames * average, tokens.counts).tolist() == [average] * frames
    full = Uniform(keep=1.0)
    assert (full + DyToK()).budget(full, tokens, torch.arange(1.0, frames + 1)).tolist() == [
        196
    ] * frames


@pytest.mark.parametrize(
    ("weights", "total", "cap"),
    [
        ([1.0, -1.0], 2, 4),
        ([0.0, 0.0], 2, 4),
        ([float("nan"), 1.0], 2, 4),
        ([float("inf"), 1.0], 2, 4),
        ([1.0, 1.0], 9, 4),
        ([1.0, 1.0], -1, 4),
    ],
)
def test_apportion_refuses(weights: list[float], total: int, cap: int) -> None:
    with pytest.raises(ValueError, match=r"do not fit|must be finite"):
        ops.apportion(torch.tensor(weights), total, torch.full((len(weights),), cap))


# --- composition
# ----------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(registry.names()), unique=True, max_size=3))
def test_stages_commute(words: list[str]) -> None:
    """Whatever the written order, stages run in the same order, as long as no two strategies share
    a stage.
    """
    forward = Pipeline(tuple(registry.get(word)() for word in words))
    backward = Pipeline(forward.strategies[::-1])
    for stage in (Allocator, VisionStage, PrefillStage, DecodeStage):
        if len(forward.of(stage)) < 2:
            assert forward.of(stage) == backward.of(stage)
