"""The algebra of `+`, options as dots, and how strategies are defined and found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import arbitrary
import pytest
from arbitrary import blank
from hypothesis import given
from hypothesis import strategies as st
from offenders import refusal
from torch import Tensor

from tokenprune import lookup, registry
from tokenprune.errors import NameTakenError
from tokenprune.lookup import STRATEGIES
from tokenprune.registry import build
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.prumerge import PruMerge
from tokenprune.strategies.uniform import Uniform
from tokenprune.strategies.visionzip import VisionZip
from tokenprune.strategy import (
    REGISTERED,
    Allocator,
    DecodeStage,
    Pipeline,
    PrefillStage,
    TowerReader,
    VisionStage,
)
from tokenprune.tokens import Signals, VisualTokens

NONE = Pipeline()
specs = st.lists(st.sampled_from(registry.names()), max_size=3)


def composed(words: list[str]) -> Pipeline:
    return Pipeline(tuple(registry.get(word)() for word in words))


@pytest.fixture
def scratch() -> Iterator[None]:
    """Strategies that a test defines are gone after it."""
    known = dict(REGISTERED)
    yield
    REGISTERED.clear()
    REGISTERED.update(known)


# --- algebra
# ----------------------------------------------------------------------------------


@given(st.lists(specs, min_size=3, max_size=3))
def test_composition_is_a_monoid(words: list[list[str]]) -> None:
    a, b, c = map(composed, words)
    assert a + NONE == NONE + a == a
    assert (a + b) + c == a + (b + c)
    assert hash((a + b) + c) == hash(a + (b + c))
    for strategy in a.strategies:
        assert strategy + b == Pipeline((strategy,)) + b
        assert NONE + strategy == Pipeline((strategy,))
        assert b + strategy == b + Pipeline((strategy,))


def test_specs_and_objects_are_equal() -> None:
    assert build("dycoke+dytok") == build("dycoke") + DyToK() == DyCoke() + DyToK()
    assert build("fastv") + build("uniform") == build("fastv+uniform") == FastV() + Uniform()
    assert build("none") == NONE == build("none+none")
    assert build("none+fastv+none") == build(" fastv ") == Pipeline((FastV(),))
    assert build("fastv") != build("fastv", {"fastv.drop": 0.4}) == NONE + FastV(drop=0.4)
    assert hash(build("dycoke+dytok", {"dytok.layers": [1, 2]})) == hash(
        DyCoke() + DyToK(layers=(1, 2))
    )


@given(specs)
def test_a_spec_reads_back(words: list[str]) -> None:
    assert str(composed(words)) == ("+".join(words) or "none")
    assert composed(
        [word for word in str(composed(words)).split("+") if word != "none"]
    ) == composed(words)


def test_running_order() -> None:
    early, late = FastV(layer=2), FastV(layer=5)
    assert (late + early).of(PrefillStage) == (early, late)
    assert (
        build("fastv+dycoke").of(VisionStage)
        == build("dycoke+fastv").of(VisionStage)
        == (DyCoke(),)
    )
    assert (Uniform() + DyCoke(layer=1)).of(VisionStage) == (Uniform(), DyCoke(layer=1))
    assert build("fastv+dycoke").of(DecodeStage) == (DyCoke(),)
    assert build("dytok+uniform").allocator == DyToK()
    assert build("uniform").allocator is None


def test_strategies_with_a_budget_host_and_one_hides_rows() -> None:
    assert (FastV() + DyToK() + DyCoke()).hosts == (FastV(), DyCoke())  # as written
    assert build("dycoke+fastv").decode_stage == DyCoke()
    assert build("none").hosts == ()
    assert build("fastv").decode_stage is None


def test_signals_are_what_the_readers_need() -> None:
    assert build("fastv+uniform").signals == Signals()
    assert build("uniform+visionzip").signals == Signals("received", "head_mean")
    assert build("prumerge", {"prumerge.proxy": "received"}).signals == Signals("received", "full")


# --- options
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        ("dycoke+dytok", {"dycoke.merge": 0.5, "dytok.cap": 49}, DyCoke(merge=0.5) + DyToK(cap=49)),
        ("dycoke+dytok", {"dycoke": {"merge": "0.5"}, "dytok": {}}, DyCoke(merge=0.5) + DyToK()),
        ("visionzip+dytok", {"dytok.layers": [16, 23]}, VisionZip() + DyToK(layers=(16, 23))),
        ("visionzip+dytok", {"dytok.layers": (16, 23)}, VisionZip() + DyToK(layers=(16, 23))),
        ("visionzip+dytok", {"dytok.layers": None, "dytok.cap": "none"}, VisionZip() + DyToK()),
        (
            "prumerge",
            {"prumerge.grid": "true", "prumerge.keep": "0.25"},
            NONE + PruMerge(grid=True, keep=0.25),
        ),
        ("fastv", {"fastv.layer": "3", "fastv.drop": 1}, NONE + FastV(layer=3, drop=1.0)),
    ],
)
def test_options(spec: str, options: dict[str, Any], expected: Pipeline) -> None:
    assert build(spec, options) == expected


# --- definitions
# ----------------------------------------------------------------------------------


def define(name: str, bases: tuple[type, ...], **members: Any) -> Any:
    """A new registered strategy class, from a place of its own."""
    bodies = {"weigh", "quota", "compress", "prune", "start", "attend", "signals"}
    stubs = {body: lambda *_: None for body in bodies if any(hasattr(base, body) for base in bases)}
    fields = {"__annotations__": {member: int for member in members if member == "layer"}}
    return dataclass(frozen=True)(type(name.title(), bases, stubs | members | fields, name=name))


@pytest.mark.usefixtures("scratch")
def test_conflicts_between_stages() -> None:
    define("second", (Allocator,))
    define("hider", (DecodeStage,), layer=2)
    assert (
        refusal(build, "fastv+dytok+second")
        == "dytok and second both allocate the budget: keep one of them"
    )
    assert (
        refusal(build, "dycoke+hider")
        == "dycoke and hider both hide cached rows at decode: keep one of them"
    )
    define("fromtower", (VisionStage, TowerReader), signals=lambda _: Signals(keys="full"))
    assert build("prumerge+fromtower").signals == Signals("mean_query", "full")
    greedy = define("greedy", (VisionStage,), quota=lambda _, tokens: tokens.counts + 1)()
    message = refusal(Pipeline((greedy,)).budget, greedy, blank(2, 3), None)
    assert message == (
        "test_composition.py: Greedy.quota asks for [4, 4] tokens per frame, there are [3, 3]: "
        "from 0 to all of them "
        "(docs/write-a-strategy.md)"
    )


@pytest.mark.usefixtures("scratch")
def test_names() -> None:
    with pytest.raises(NameTakenError) as taken:
        define("fastv", (VisionStage,))
    assert (
        str(taken.value)
        == "the strategy name 'fastv' is taken by tokenprune.strategies.fastv.FastV: choose another"
    )
    for name in ("none", "a+b", "a.b", "two words", ""):
        message = refusal(define, name, (VisionStage,))
        assert (
            message
            == f"{name!r} is not a strategy name: write letters, digits and _ (and not 'none')"
        )
    unnamed = type("Unnamed", (PrefillStage,), {})
    assert unnamed.name == "Unnamed"
    assert unnamed not in REGISTERED.values()


@pytest.mark.usefixtures("scratch")
def test_running_a_definition_again_replaces_it() -> None:
    first, second = (define("cell", (PrefillStage,), layer=layer) for layer in (1, 2))
    assert first is not second
    assert registry.get("cell") is second
    assert build("cell") == Pipeline((second(),))


@pytest.mark.usefixtures("scratch")
def test_fields_are_the_schema() -> None:
    @dataclass(frozen=True)
    class Needy(VisionStage, name="needy"):
        amount: int
        places: list[int] = field(default_factory=list)

        def quota(self, tokens: VisualTokens) -> Tensor:
            return tokens.counts

        def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
            return tokens

    assert build("needy", {"needy.amount": 3}).strategies == (Needy(3),)
    assert "missing mandatory value: amount" in refusal(build, "needy")

    type("Bare", (PrefillStage,), {"quota": None, "prune": None}, name="bare")
    assert (
        "class Bare is not a dataclass: write @dataclass(frozen=True) above class Bare"
        in refusal(build, "bare")
    )


class EntryPoint(SimpleNamespace):
    def load(self) -> Any:
        return self.action()


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch, scratch: None) -> Iterator[Any]:
    """Installs one package for each action that importing it does: `entry(action)`."""

    def install(*actions: Any) -> None:
        dist = SimpleNamespace(name="their-package")
        points = [EntryPoint(name="theirs", action=action, dist=dist) for action in actions]
        monkeypatch.setattr(
            lookup,
            "entry_points",
            lambda group: points if group == "tokenprune.strategies" else [],
        )
        STRATEGIES._broken = None

    yield install
    monkeypatch.undo()
    STRATEGIES._broken = None


def test_entry_points(entry: Any) -> None:
    entry(lambda: define("theirs", (PrefillStage,), layer=1))
    assert "theirs" in registry.names()
    assert str(build("uniform+theirs")) == "uniform+theirs"


def half() -> None:
    define("half", (PrefillStage,), layer=1)
    raise ImportError("cannot import name 'gone'\nfrom their_package")


BROKEN: dict[str, tuple[Any, str]] = {
    "raises": (lambda: 1 / 0, "division by zero"),
    "leaves": (lambda: sys.exit(3), "3"),
    "leaves without a word": (sys.exit, "SystemExit"),
    "half": (half, "cannot import name 'gone' from their_package"),
    "taken": (
        lambda: define("fastv", (VisionStage,)),
        "the strategy name 'fastv' is taken by tokenprune.strategies.fastv.FastV: choose another",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_entry_point_is_told_of_once_and_fails_only_who_asks_for_it(
    case: str, entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    action, reason = BROKEN[case]
    built_in = set(registry.names())
    entry(action)
    told = (
        "the strategy 'theirs' of the installed package 'their-package' does not import "
        f"({reason}): "
        "update or uninstall that package"
    )
    assert set(registry.names()) == built_in
    assert str(build("fastv+dytok")) == "fastv+dytok"
    assert refusal(build, "fastv+theirs") == told
    assert refusal(registry.get, "theirs") == told
    assert [record.getMessage() for record in caplog.records] == [f"tokenprune: {told}"]


def test_an_entry_point_of_another_name_than_its_strategy(
    entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    entry(lambda: define("renamed", (PrefillStage,), layer=1))
    assert str(build("renamed")) == "renamed"
    assert refusal(build, "theirs") == (
        "the entry point 'theirs' of the installed package 'their-package' defines no strategy of "
        "that name: "
        "write renamed"
    )
    assert not caplog.records


def test_an_entry_point_that_defines_nothing(entry: Any, caplog: pytest.LogCaptureFixture) -> None:
    entry(lambda: None)
    assert refusal(build, "theirs").endswith(
        "defines no strategy of that name: update or uninstall that package"
    )
    assert len(caplog.records) == 1


def test_two_packages_with_one_name(entry: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can say which of them is meant, so neither is taken; what else they define works."""

    def package(number: int) -> Any:
        def load() -> None:
            define(f"other{number}", (PrefillStage,), layer=1)
            shared = type(f"Shared{number}", (PrefillStage,), {}, name="shared")
            shared.__module__ = f"package{number}"

        return load

    entry(package(1), package(2))
    assert "is taken by package1.Shared1" in refusal(build, "shared")
    assert "other1" in registry.names() and len(caplog.records) == 1
    # a third one is meant, since the user's own program defines it
    mine = define("shared", (VisionStage,))
    assert build("shared") == Pipeline((mine(),))


def test_the_registry_lists_the_files() -> None:
    assert set(registry.names()) >= {
        "dycoke",
        "dytok",
        "fastv",
        "prumerge",
        "random",
        "uniform",
        "visionzip",
    }
    assert all(registry.get(name).name == name for name in registry.names())
    assert arbitrary.blank(1, 1).frames == 1
