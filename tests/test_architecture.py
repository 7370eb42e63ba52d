"""What the code may look like: how long a file gets, abstract or final, no loop over tokens."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from docstrings import field_docs
from imports import MODULES, ROOT, imports

from tokenprune import registry, strategy
from tokenprune.strategy import (
    REGISTERED,
    Placed,
    PrefillStage,
    Strategy,
    TowerStage,
    stages,
)

STRATEGIES = {
    name: path for name, path in MODULES.items() if name.startswith("tokenprune.strategies.")
}
STRATEGIES.pop("tokenprune.strategies.__init__")
SHARED = (
    "ragged",
    "ops",
    "resembling",
    "merging",
    "clustering",
    "trees",
    "windows",
    "standing",
    "absorbing",
    "scenes",
    "picking",
    "bipartite",
)
PURE = {name: MODULES[name] for name in (*(f"tokenprune.{part}" for part in SHARED), *STRATEGIES)}
MATHS = {"torch", "jaxtyping", *sys.stdlib_module_names}


CONTRACT = ["tokenprune.tokens", "tokenprune.sequence", "tokenprune.strategy.stages"]


@pytest.mark.parametrize("name", [*PURE, *CONTRACT])
def test_strategies_and_their_contract_need_torch_and_nothing_else(name: str) -> None:
    assert {other.split(".")[0] for other in imports(MODULES[name])} - {"tokenprune"} <= MATHS


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_short(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= (150 if name in STRATEGIES else 290)


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_the_line_of_title_and_link_is_long(name: str) -> None:
    """Ruff is told to leave these files, since no tool knows which of their lines may be."""
    lines = MODULES[name].read_text().splitlines()
    assert [line for line in lines if len(line) > 100 and ", https://" not in line] == []


def loops(path: Path) -> list[str]:
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.While):
            found.append(f"while {ast.unparse(node.test)}")
        elif isinstance(node, ast.For):
            found.append(f"for in {ast.unparse(node.iter)}")
        elif isinstance(node, comprehensions):
            found += [f"for in {ast.unparse(part.iter)}" for part in node.generators]
    return found


LOOPS = {
    "tokenprune.resembling": [
        # windows of some frames, and which of their pairs are looked up: numbers of the host
        "for in features.split(window)",
        "for in each",
        # blocks that stay in a cache
        "for in range(0, len(order), size)",
        "for in blocks[1:]",
        "for in places",
    ],
    # a plan of segments and their frames, on numbers of the host; segments of one form at once
    "tokenprune.merging": [
        "for in pairwise(accumulate(lengths, initial=0))",
        "for in pieces",
        "for in range(begin, end)",
        "for in enumerate(anchors)",
        "for in groupby(plan.segments)",
        "for in runs",
        "for in range(begin, end)",
        "for in frame",
        "for in frame",
        "for in frame",
        "for in enumerate(frame)",
        "for in range(anchors[one])",
        "for in rows",
        "for in (*row, *[none] * (reach - len(row)))",
        "for in runs",
        "for in held",
        "for in enumerate(to)",
        "for in to",
        "for in apart",
    ],
    "tokenprune.ops": [
        "for in range(60)",  # halves of an interval
        "for in (0.25, 0.75)",
    ],
    # similarities of frames, and cuts between them, on numbers of the host
    "tokenprune.scenes": [
        "for in ratios",
        "for in similarity",
        "for in pairwise(ends)",
        "for in zip(products, norms, strict=False)",
    ],
    # shares of frames, on numbers of the host
    "tokenprune.strategies.fastvid": [
        "for in pairwise(accumulate(lengths, initial=0))",
        "for in enumerate(counts[start:end])",
        "for in counts[start:end]",
        "for in budget",
    ],
    # sizes of frames, on numbers of the host
    "tokenprune.ragged": ["for in known", "for in ends"],
    # a recurrence over frames, a few numbers each on the host, and the way back through its scenes;
    # what follows from these
    "tokenprune.standing": [
        "for in range(len(same) + 1)",
        "while end > 0",
        "for in enumerate(parts)",
        "for in same",
        "for in enumerate(number)",
        "for in range(most)",
        "for in zip(number, starts, strict=True)",
        "for in range(most)",
        "for in parts",
        "for in parts",
        "for in self.cells",
        "for in enumerate(still, 1)",
        "for in places",
    ],
    "tokenprune.strategies.holitom": [
        "for in parts",
        "for in scenes",
        "for in scenes",
        "for in range(scene.frames)",
        "for in zip(counts, still, strict=True)",
        "for in parts",
        "for in parts",
        "for in scene.rows(row, tokens.cells)",
    ],
    # scenes, on numbers of the host
    "tokenprune.strategies.prunevid": [
        "for in moves.sum(1).tolist()",
        "for in windows.refined(label.flatten().tolist())",
    ],
    # runs of labels on the host, of which each may depend on those before it; windows, and the
    # groups and clusters in them, on numbers of the host
    "tokenprune.windows": [
        "for in runs",
        "for in runs",
        "for in zip(lengths, still, strict=True)",
        "for in parts",
        "for in groupby(labels)",
        "for in lengths",
        "for in lengths",
        "for in enumerate(lengths)",
        "for in range(length)",
        "for in window",
        "for in range(first, last)",
    ],
    # doublings of how far one looks; segments, on numbers of the host
    "tokenprune.trees": [
        "for in range((frames - 1).bit_length())",
        "for in zip(of, number, room, strict=True)",
        "for in there",
        "for in zip(of, number, strict=True)",
    ],
    # on numbers of the host
    "tokenprune.strategies.flashvid": ["for in there", "for in budget"],
    "tokenprune.picking": [  # picks, of which each depends on those before it
        "for in range(number)",
        "for in range(number)",
        "for in range(number)",
        "for in range(0, len(vectors), PART)",
        "for in range(0, len(vectors), PART)",
        "while left > 0",
    ],
    # and so are events that removed shares, one after another
    "tokenprune.strategies.framefusion": ["for in shares", "for in pairwise(counts)"],
    # events, of which each finds what the one before it left: on numbers of the host
    "tokenprune.strategies.sparsevlm": ["for in pairwise([*events, extent.depth])"],
    # layers of the tower, on numbers of the host
    "tokenprune.strategies.tome": ["for in enumerate(wanted)", "for in range(layers)"],
    # rounds of halving, on numbers of the host, and what each does on the device
    "tokenprune.strategies.tome_vision": [
        "while any((now > end for now, end in zip(counts, goal, strict=True)))",
        "for in plan",
        "for in budget",
        "for in zip(counts, goal, strict=True)",
        "for in pairs",
    ],
    # a few pivots, of which each chooses from what those before it left
    "tokenprune.strategies.dart": ["for in zip((-similarity).unbind(), shares, strict=True)"],
    # what becomes of frames, by their numbers on the host
    "tokenprune.strategies.prumerge": [
        "for in frames",
        "for in frames",
    ],
    # what a plan gives each frame: numbers of the host
    "tokenprune.strategies.visionzip": [
        "for in zip(hosted.numbers(counts), dominant, contextual, strict=True)",
        "for in hosted.numbers(budget)",
    ],
    "tokenprune.strategies.vispruner": ["while any((lost := [*map(gone, there, numbers)]))"],
}


@pytest.mark.parametrize("name", PURE)
def test_no_loops_over_tokens_frames_or_heads(name: str) -> None:
    assert loops(PURE[name]) == LOOPS.get(name, [])


def test_one_strategy_one_file() -> None:
    known = {registry.get(name).name for name in registry.names()}  # imports them
    built_in = {name for name, kind in REGISTERED.items() if kind.__module__ in STRATEGIES}
    assert built_in == {name.rpartition(".")[2] for name in STRATEGIES} <= known
    assert all(REGISTERED[name].__module__ == f"tokenprune.strategies.{name}" for name in built_in)


BUILT_IN = [name.rpartition(".")[2] for name in STRATEGIES]


@pytest.mark.parametrize("name", BUILT_IN)
def test_abstract_or_final(name: str) -> None:
    """Strategies inherit interfaces only, and override nothing that has a body."""
    kind = registry.get(name)
    assert not inspect.isabstract(kind)
    bases: list[Any] = [base for base in kind.__mro__[1:] if issubclass(base, Strategy)]
    assert all(base.__module__ == stages.__name__ for base in bases), "a strategy is subclassed"
    generated = {
        "__init__",
        "__repr__",
        "__eq__",
        "__hash__",
        "__setattr__",
        "__delattr__",
        "__replace__",
    }
    for member in set(vars(kind)) - generated:
        for base in bases:
            if base is PrefillStage and member == "layers":  # of one layer unless it says so
                continue
            inherited = vars(base).get(member)
            assert not inspect.isfunction(inherited) or getattr(
                inherited, "__isabstractmethod__", False
            ), member


def test_abstract_methods_are_not_overridden_by_interfaces() -> None:
    interfaces = [
        kind
        for _, kind in inspect.getmembers(strategy, inspect.isclass)
        if issubclass(kind, Strategy)
    ]
    bases = (Strategy, Placed, TowerStage)
    assert all(kind in bases or inspect.isabstract(kind) for kind in interfaces)


@pytest.mark.parametrize("name", BUILT_IN)
def test_strategies_are_frozen_and_say_where_they_come_from(name: str) -> None:
    kind = registry.get(name)
    parameters = getattr(kind, "__dataclass_params__")  # noqa: B009
    assert parameters.frozen
    assert parameters.eq
    module = sys.modules[kind.__module__]
    assert module.__doc__
    assert len(module.__doc__.splitlines()) == 1
    assert kind.__doc__
    first = kind.__doc__.splitlines()[0]
    paper = re.fullmatch(r".+ \((?:.+, )?\w+ 20\d\d\), https://\S+", first)
    assert first.startswith(("Control: ", "Ours: ")) or paper, f"no title, venue and link: {first}"


@pytest.mark.parametrize("name", BUILT_IN)
def test_strategies_explain_every_field_where_editors_show_it(name: str) -> None:
    kind = registry.get(name)
    fields = [field.name for field in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    meanings = field_docs(kind)
    assert list(meanings) == fields, "under Args: stands one `name: meaning` for each field"
    assert all(len(meaning.split()) > 2 for meaning in meanings.values())


def test_the_meaning_of_a_field_may_run_over_two_lines() -> None:
    class Explained:
        """Title.

        Args:
            keep: fraction
                kept: 0 to 1
            seed: of the draw

        Behind it: something else.
        """

    class Silent:
        """Title."""

    assert field_docs(Explained) == {"keep": "fraction kept: 0 to 1", "seed": "of the draw"}
    assert field_docs(Silent) == {}


def test_the_root_shows_the_strategies() -> None:
    link = ROOT / "strategies"
    if not link.exists():
        pytest.skip("not a checkout: the root link is not part of the source distribution")
    assert link.is_symlink()
    assert link.readlink() == Path("tokenprune/strategies")
