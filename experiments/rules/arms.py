"""What is compared: every method that has both rules, at the same requested budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args, get_type_hints

from tokenprune import registry
from tokenprune.errors import StrategyError
from tokenprune.strategy import Adjustable, Allocator, Extent, Pipeline, PrefillStage, Strategy

RULES = PAPER, RELEASED = ("paper", "released")
DEPTH = 28  # LLM layers that the methods' own layers are meant for
HOST = "visionzip"  # whose budget an allocator hands out


@dataclass(frozen=True)
class Arm:
    """A method under one rule at one budget."""

    method: str
    budget: float | None  # requested; None: its own options
    rule: str
    pipeline: Pipeline


@dataclass(frozen=True)
class Refused:
    """Why a method cannot have a budget under a rule."""

    method: str
    budget: float | None  # None: it cannot have the rule at all
    rule: str
    reason: str


def methods() -> list[str]:
    """Strategies that can follow the paper or the authors' code."""
    return [name for name in registry.names() if _has_both(registry.get(name))]


def arms(
    names: Sequence[str], budgets: Sequence[float], extent: Extent
) -> tuple[list[Arm], list[Refused]]:
    """Both rules of each method at each budget; those that take none with their own options."""
    found = [one for name in names for rule in RULES for one in _of(name, rule, budgets, extent)]
    taken = [one for one in found if isinstance(one, Arm)]
    return taken, [one for one in found if isinstance(one, Refused)]


def _of(name: str, rule: str, budgets: Sequence[float], extent: Extent) -> Iterator[Arm | Refused]:
    try:
        pipeline = _pipeline(name, rule, extent)
    except (StrategyError, ValueError) as error:
        yield Refused(name, None, rule, str(error))
        return
    if not isinstance(pipeline.hosts[0], Adjustable):
        yield Arm(name, None, rule, pipeline)
        return
    for budget in budgets:
        try:
            yield Arm(name, budget, rule, pipeline.retaining(budget, extent))
        except StrategyError as error:
            yield Refused(name, budget, rule, str(error))


def _pipeline(name: str, rule: str, extent: Extent) -> Pipeline:
    """With layers at the depth, as a share of the model, that its own are meant for."""
    kind = registry.get(name)
    options: dict[str, object] = {f"{name}.follow": rule}
    if issubclass(kind, PrefillStage) and "layer" in _fields(kind):
        layer = max(1, round(kind().layer * extent.depth / DEPTH))
        options[f"{name}.layer"] = layer
    spec = f"{HOST}+{name}" if issubclass(kind, Allocator) else name
    return registry.build(spec, options)


def _has_both(kind: type[Strategy]) -> bool:
    return {*RULES} <= {*get_args(get_type_hints(kind).get("follow"))}


def _fields(kind: type[Strategy]) -> dict[str, dataclasses.Field[object]]:
    return {field.name: field for field in dataclasses.fields(kind)}  # pyright: ignore
