"""What the code may look like: who imports whom, how long a file gets, abstract or final, no loop over tokens."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenprune import registry, strategy
from tokenprune.strategy import REGISTERED, Strategy

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tokenprune"
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")}
STRATEGIES = {name: path for name, path in MODULES.items() if name.startswith("tokenprune.strategies.")}
STRATEGIES.pop("tokenprune.strategies.__init__")
PURE = {"tokenprune.ops": MODULES["tokenprune.ops"], **STRATEGIES}
LOOP = {f"tokenprune.{name}" for name in ("evaluate", "samples", "progress", "trainer")}
CONTRACT = ("errors", "ops", "precision", "tokens", "strategy")
MATHS = {"torch", "jaxtyping", *sys.stdlib_module_names}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, also inside functions: `tokenprune.ops`, `torch.nn.functional`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name.replace(".", "/") in SOURCES else str(node.module) for name in names}
    return found


SOURCES = {name.removesuffix(".__init__").replace(".", "/") for name in MODULES}


def own(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == "tokenprune"}


def foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"tokenprune"}


def test_dependencies_point_one_way() -> None:
    assert own(MODULES["tokenprune.ops"]) == own(MODULES["tokenprune.errors"]) == set()
    assert own(MODULES["tokenprune.precision"]) == set()
    assert own(MODULES["tokenprune.words"]) == {"tokenprune.errors"}
    assert own(MODULES["tokenprune.tokens"]) <= {"tokenprune.ops"}
    below = {"tokenprune.errors", "tokenprune.ops", "tokenprune.tokens"}
    guards = {"tokenprune.blame", "tokenprune.watch", "tokenprune.contract"}  # what calls strategies and checks results
    assert own(MODULES["tokenprune.blame"]) == {"tokenprune.errors"}
    assert all(own(MODULES[name]) <= below | guards for name in guards)
    assert own(MODULES["tokenprune.strategy"]) <= {*below, "tokenprune.contract"}
    above = {"tokenprune.strategy", "tokenprune.strategies", "tokenprune.declaration"}
    assert own(MODULES["tokenprune.registry"]) <= {"tokenprune.errors", "tokenprune.blame", *above}
    for name in ("ops", "tokens", "strategy"):
        assert foreign(MODULES[f"tokenprune.{name}"]) <= MATHS


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_import_the_contract_and_each_other(name: str) -> None:
    assert foreign(STRATEGIES[name]) <= MATHS
    for imported in own(STRATEGIES[name]):
        assert imported in STRATEGIES or imported in {f"tokenprune.{part}" for part in CONTRACT}


@pytest.mark.parametrize("name", MODULES)
def test_what_only_one_layer_may_import(name: str) -> None:
    path = MODULES[name]
    if name.startswith("tokenprune.adapters"):
        assert not {other for other in own(path) if other.startswith("tokenprune.strategies")}
        assert "tokenprune.registry" not in own(path)
    if name not in LOOP:
        assert not foreign(path) & {"lightning", "pytorch_lightning"}, "only the loop imports lightning"


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_short(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= (150 if name in STRATEGIES else 250)


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


LOOPS = {"tokenprune.strategies.dycoke": ["for in range(0, len(features), WINDOW)"]}  # windows of four frames


@pytest.mark.parametrize("name", PURE)
def test_no_loops_over_tokens_frames_or_heads(name: str) -> None:
    assert loops(PURE[name]) == LOOPS.get(name, [])


def test_one_strategy_one_file() -> None:
    known = set(registry.names())  # imports them
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
    assert all(base.__module__ == strategy.__name__ for base in bases), "a strategy is subclassed"
    generated = {"__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__"}
    for member in set(vars(kind)) - generated:
        for base in bases:
            inherited = vars(base).get(member)
            assert not inspect.isfunction(inherited) or getattr(inherited, "__isabstractmethod__", False), member


def test_abstract_methods_are_not_overridden_by_interfaces() -> None:
    interfaces = [kind for _, kind in inspect.getmembers(strategy, inspect.isclass) if issubclass(kind, Strategy)]
    assert all(kind is Strategy or inspect.isabstract(kind) for kind in interfaces)


@pytest.mark.parametrize("name", BUILT_IN)
def test_strategies_are_frozen_and_say_where_they_come_from(name: str) -> None:
    kind = registry.get(name)
    parameters = getattr(kind, "__dataclass_params__")  # noqa: B009
    assert parameters.frozen
    assert parameters.eq
    source, module = STRATEGIES[f"tokenprune.strategies.{name}"].read_text(), sys.modules[kind.__module__]
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        assert re.search(rf"^    {field.name}: .* = .*  # \w", source, re.MULTILINE), f"{field.name} has no comment"
    assert module.__doc__
    assert len(module.__doc__.splitlines()) == 1
    assert kind.__doc__
    first = kind.__doc__.splitlines()[0]
    paper = re.fullmatch(r".+ \((?:.+, )?\w+ 20\d\d\), https://\S+", first)
    assert first.startswith("Control: ") or paper, f"no title, venue and link: {first}"


def test_the_root_shows_the_strategies() -> None:
    link = ROOT / "strategies"
    if not link.exists():
        pytest.skip("not a checkout: the root link is not part of the source distribution")
    assert link.is_symlink()
    assert link.readlink() == Path("tokenprune/strategies")
