"""The class of a strategy is held to the contract before it is built: an error says what to write
in which file.
"""

from __future__ import annotations

import dataclasses
import inspect
from enum import Enum
from typing import Any

from tokenprune import strategy
from tokenprune.errors import StrategyError
from tokenprune.guards import blame
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

_STAGES = (
    Allocator,
    VisionStage,
    Condenser,
    PrefillStage,
    DecodeStage,
    TowerMerger,
    TowerReuser,
)
_VALUES = (bool, int, float, str, bytes, type(None), tuple, list, dict, set, frozenset, Enum)


def check_class(kind: type[Strategy]) -> None:
    """Raises StrategyError unless `kind` is a frozen dataclass with a stage whose options are
    fields.
    """
    name = kind.__name__
    if not issubclass(kind, _STAGES):
        stages = ", ".join(stage.__name__ for stage in _STAGES)
        raise _breach(kind, "has no stage", f"inherit one or more of {stages}")
    if not dataclasses.is_dataclass(kind):
        raise _breach(
            kind, "is not a dataclass", f"write @dataclass(frozen=True) above class {name}"
        )
    if not getattr(kind, "__dataclass_params__").frozen:  # noqa: B009
        raise _breach(kind, "is not frozen", f"write @dataclass(frozen=True) above class {name}")
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        raise _breach(kind, f"lacks {' and '.join(missing)}", "define every method of its stages")
    # class variables and InitVars, too
    fields = set(getattr(kind, "__dataclass_fields__"))  # noqa: B009
    for owner in kind.__mro__:
        if blame.foreign(owner) and issubclass(owner, Strategy):
            _check_fields(kind, owner, fields)
    # a prefill stage may say it in `layers` instead
    silent = issubclass(kind, DecodeStage) or (
        issubclass(kind, PrefillStage) and kind.layers is PrefillStage.layers
    )
    if silent and "layer" not in fields and not hasattr(kind, "layer"):
        raise _breach(
            kind, "does not say before which LLM layer it acts", "add a field, as in layer: int = 2"
        )


def check_classes(pipeline: Pipeline) -> None:
    """`check_class` for every strategy of a pipeline, which may have been built by hand."""
    for one in pipeline.strategies:
        check_class(type(one))


def _check_fields(kind: type[Strategy], owner: type, fields: set[str]) -> None:
    """Values in the body of `owner`, `kind` itself or a base of it, that no option can reach."""
    annotated = _annotations(owner)
    constants = {
        name for name, hint in annotated.items() if "ClassVar" in str(hint)
    } | _class_variables()
    for name in [*annotated, *vars(owner)]:
        if name.startswith("_") or name.isupper() or name in fields | constants:
            continue
        if name in annotated:
            did = f"is not a field, since {owner.__name__} is not a dataclass"
            raise _breach(
                kind,
                f"has {name}, which {did}",
                f"write @dataclass(frozen=True) above class {owner.__name__}",
            )
        if isinstance(value := vars(owner)[name], _VALUES):
            constant = f"{name}: ClassVar = {value!r} for a constant"
            held = isinstance(value, (list, dict, set))  # state, more likely than an option
            rule = (
                f"write {constant}, and keep no state on a class"
                if held
                else f"write {_field(name, value)}, or {constant}"
            )
            raise _breach(kind, f"has {name} without an annotation, so no option can set it", rule)


def _annotations(owner: type) -> dict[str, Any]:
    try:
        return inspect.get_annotations(owner)
    # Python 3.14 reads them late, and they name what is only imported for a type checker
    except NameError:
        return dict.fromkeys(getattr(owner, "__dataclass_fields__", {}))


def _class_variables() -> set[str]:
    """What the interfaces declare for all instances of a class."""
    interfaces = (
        kind
        for _, kind in inspect.getmembers(strategy, inspect.isclass)
        if issubclass(kind, Strategy)
    )
    return {
        name
        for kind in interfaces
        for name, hint in inspect.get_annotations(kind).items()
        if str(hint).startswith("ClassVar")
    }


def _field(name: str, value: Any) -> str:
    hint = "int | None" if value is None else type(value).__name__
    return f"{name}: {hint} = {value!r}"


def _breach(kind: type[Strategy], did: str, rule: str) -> StrategyError:
    return StrategyError(
        f"{blame.home(kind)}: class {kind.__name__} {did}: {rule} (docs/write-a-strategy.md)"
    )
