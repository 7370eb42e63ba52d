"""`check_strategy`: the laws that a strategy has to keep, on generated inputs and on models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import torch

from tokenprune import registry
from tokenprune.declaration import check_class
from tokenprune.errors import TokenpruneError
from tokenprune.guards import contract
from tokenprune.loading.device import threads
from tokenprune.strategy import (
    Allocator,
    Condenser,
    DecodeStage,
    Pipeline,
    PrefillStage,
    Strategy,
    TowerMerger,
    TowerReuser,
    VisionStage,
)
from tokenprune.testing import toy
from tokenprune.testing.allocate import ALLOCATE
from tokenprune.testing.cases import (
    Chance,
    OfFrames,
    OfRows,
    OfSteps,
    OfTokens,
    shapes,
)
from tokenprune.testing.decode import DECODE
from tokenprune.testing.inputs import KINDS, Place
from tokenprune.testing.law import Finding, Law, LawBrokenError, applies, holds, law, tried
from tokenprune.testing.prefill import DEPTHS, PREFILL, layers
from tokenprune.testing.report import Report, together
from tokenprune.testing.state import stateless
from tokenprune.testing.tower import MERGE, REUSE, of_keys, of_patches
from tokenprune.testing.vision import CONDENSE, VISION, wanted

CASES = 24
DTYPES = (torch.float32, torch.float32, torch.float16, torch.bfloat16)
SWITCHES = {
    "mixes_frames": (True, False),
    "merges": (True, False),
    "reallocates": (True, False),
    "forgets": (True, False),
    "positions": ("contiguous", "original", "model", None),
}


def check_strategy(
    strategy: Strategy | type[Strategy] | str,
    *,
    models: Iterable[str] = ("toy", "tiny"),
    seed: int = 0,
    cases: int = CASES,
    show: bool = True,
) -> Report:
    """Holds a strategy to every law of its stages, prints a report and returns it.

    The laws are tried on `cases` generated inputs, on a toy language model, and through `attach` on
    the `models`: `"toy"`, a small random one, and `"tiny"`, the embedded one; any other name is
    loaded. `strategy` is an instance, with the options that you mean; a class or a registered name
    stands for its defaults.

    Raises BrokenLawsError (an AssertionError) that lists what is broken, after the report was
    printed.
    """
    one = _instance(strategy)
    with threads(1):
        findings = [*on_inputs(one, seed, cases), *_on_models(one, tuple(models))]
    return together(f"{one.name} ({type(one).__name__})", findings).settled(show)


def _on_models(one: Strategy, models: tuple[str, ...]) -> Iterator[Finding]:
    """What comes of the laws on models; transformers is not needed for the others."""
    if models:
        from tokenprune.testing.live import on_models

        yield from on_models(one, models)


def _instance(strategy: Strategy | type[Strategy] | str) -> Strategy:
    """The strategy that is meant. StrategyError where its class is none."""
    if isinstance(strategy, str):
        strategy = registry.get(strategy)
    if isinstance(strategy, type):
        check_class(strategy)
        return strategy()
    check_class(type(strategy))
    return strategy


@law("its class says about itself what the contract knows")
def declared(strategy: Any, _: None) -> None:
    for name, allowed in SWITCHES.items():
        if hasattr(strategy, name):
            found = getattr(strategy, name)
            holds(found in allowed, f"{name} is {found!r}: one of {[*allowed]}")


@law("it is a pipeline of its own, and asks for signals that there are")
def alone(strategy: Any, _: None) -> None:
    applies(not isinstance(strategy, Allocator), "an allocator needs somebody's budget")
    try:
        Pipeline((strategy,)).check()
    except TokenpruneError as error:
        raise LawBrokenError(str(error)) from error


def on_inputs(strategy: Any, seed: int = 0, cases: int = CASES) -> Iterator[Finding]:
    """What comes of the laws on generated inputs."""
    yield tried("class", declared, strategy, [None])
    yield (one := tried("class", alone, strategy, [None]))
    if one.state == "failed":  # it cannot be asked any more
        return
    yield from _all(VisionStage, VISION, strategy, of_tokens(strategy, seed, cases))
    yield from _all(Condenser, CONDENSE, strategy, of_tokens(strategy, seed, cases))
    if isinstance(strategy, PrefillStage):
        yield tried("PrefillStage", layers, strategy, depths(strategy))
        yield from _all(PrefillStage, PREFILL, strategy, of_rows(strategy, seed, cases))
    yield from _all(DecodeStage, DECODE, strategy, of_steps(seed, cases))
    yield from _all(TowerMerger, MERGE, strategy, of_keys(seed, cases))
    yield from _all(TowerReuser, REUSE, strategy, of_patches(seed, cases))
    yield from _all(Allocator, ALLOCATE, strategy, of_frames(seed, cases))
    if isinstance(strategy, (VisionStage, Condenser, PrefillStage)):
        yield tried("toy layers", toy.events, strategy, of_events(strategy, seed))
        yield tried("toy layers", toy.retention, strategy, of_ratios(strategy, seed))


def _all(
    stage: type, laws: tuple[Law[Any, Any], ...], strategy: Any, cases: Iterable[Any]
) -> Iterator[Finding]:
    """Every law of a stage, on the same cases."""
    if isinstance(strategy, stage):
        made = list(cases)
        yield from (tried(stage.__name__, one, strategy, made) for one in (stateless, *laws))


def of_tokens(strategy: Any, seed: int, cases: int) -> Iterator[OfTokens]:
    chance, signals = Chance(seed), wanted(strategy)
    between = None
    for number, (slots, cells) in enumerate(islice(shapes(chance), cases)):
        kind, dtype = KINDS[number % 3], DTYPES[number % len(DTYPES)]
        tokens = chance.tokens(slots, cells, signals, kind, dtype)
        budget, frame = chance.budget(tokens.available), chance.draw.randrange(tokens.frames)
        yield OfTokens(tokens, budget, frame, between=between)
        between = tokens


def of_rows(stage: PrefillStage, seed: int, cases: int) -> Iterator[OfRows]:
    chance, between = Chance(seed), None
    known = events(stage)
    if not known:
        return
    for number, (slots, cells) in enumerate(islice(shapes(chance), cases)):
        depth, layers_ = known[number % len(known)]
        which, lost = chance.draw.randrange(len(layers_)), chance.draw.random()
        place = place_of(layers_, which, depth, sum(map(len, slots)), lost)
        dtype = DTYPES[number % len(DTYPES)]
        view = chance.view(slots, cells, place, KINDS[number % 3], dtype)
        frame = chance.draw.randrange(view.frames)
        yield OfRows(view, chance.budget(view.counts), frame, between)
        between = view


def place_of(
    layers_: tuple[int, ...], which: int, depth: int, rows: int, lost: float = 0.0
) -> Place:
    """Before one of several layers; `lost`: the share of rows that went at those before it."""
    first, layer = layers_[0], layers_[which]
    full = rows + (round(rows * lost) if which else 0)
    return Place(layer, depth, (*[full] * first, *[rows] * (layer - first)))


def depths(stage: PrefillStage) -> tuple[int, ...]:
    """Language models to try it in, one that its layer fits among them."""
    layer = getattr(stage, "layer", 0)
    return (*DEPTHS, *([layer + 2] if type(layer) is int and layer >= DEPTHS[-1] else []))


def events(stage: PrefillStage) -> list[tuple[int, tuple[int, ...]]]:
    """Its layers by how many a language model has, where it can act."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for depth in depths(stage):
        with suppress(Exception):  # the law of layers says what is wrong
            layers_ = contract.layers(stage, depth)
            if layers_ and all(1 <= layer < depth for layer in layers_):
                found.append((depth, layers_))
    return found


def of_steps(seed: int, cases: int) -> Iterator[OfSteps]:
    chance = Chance(seed)
    for _ in range(cases):
        yield OfSteps(chance.steps(), chance.steps())


def of_frames(seed: int, cases: int) -> Iterator[OfFrames]:
    """Alternately with a vision stage and a prefill stage as host."""
    chance = Chance(seed)
    for number, (slots, cells) in enumerate(islice(shapes(chance), cases)):
        share = chance.draw.choice((0.25, 0.5, 0.6))
        if number % 2:
            host = registry.build("fastv", {"fastv.drop": share}).strategies[0]
            seen: Any = chance.view(slots, cells, Place(2, 4))
        else:
            host = registry.build("uniform", {"uniform.keep": share}).strategies[0]
            seen = chance.tokens(slots, cells, wanted(host))
        yield OfFrames(chance.probe(len(slots)), host, seen)


def of_events(strategy: Any, seed: int) -> Iterator[toy.Tried]:
    chance = Chance(seed)
    known = [*DEPTHS[:-1]]
    if isinstance(strategy, PrefillStage):
        known = [depth for depth, _ in events(strategy)] or known
    for depth, (slots, cells) in zip(known * 4, shapes(chance), strict=False):
        yield toy.drawn(strategy, chance, slots, cells, depth)


def of_ratios(strategy: Any, seed: int) -> Iterator[tuple[float, toy.Tried]]:
    chance, extent = Chance(seed), toy.WHOLE
    slots = chance.slots(extent.frames, extent.cells)
    for ratio in toy.RATIOS:
        yield ratio, toy.drawn(strategy, chance, slots, extent.cells, extent.depth)
