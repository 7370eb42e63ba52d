"""Words to pipelines: `build("dycoke+dytok", {"dycoke.merge": 0.5})`.

Built-in strategies are the files of `tokenprune/strategies/`, imported on first use; third parties register through
the entry-point group `tokenprune.strategies` or simply by subclassing.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from tokenprune import strategies
from tokenprune.errors import StrategyError
from tokenprune.strategy import REGISTERED, Pipeline, Strategy

Options = Mapping[str, Any]


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(strategies.__path__):
        importlib.import_module(f"{strategies.__name__}.{module.name}")
    for point in entry_points(group="tokenprune.strategies"):
        try:
            point.load()
        except Exception as error:
            raise StrategyError(
                f"the strategy {point.name!r} of the installed package {point.dist and point.dist.name!r} does not "
                f"import ({error}): update or uninstall that package"
            ) from error


def names() -> list[str]:
    """All registered strategy names, sorted."""
    _discover()
    return sorted(REGISTERED)


def get(name: str) -> type[Strategy]:
    """The strategy class called `name`; StrategyError lists the known ones and the nearest."""
    if name in names():
        return REGISTERED[name]
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise StrategyError(f"unknown strategy {name!r}: {hint}Known: {', '.join([*names(), 'none'])}")


def build(spec: str, options: Options | None = None) -> Pipeline:
    """The checked pipeline that `spec` (`a+b`, or `none`) names, with options like `{"a.keep": 0.5}`.

    The dataclass of a strategy is the schema of its options: unknown keys and wrong types raise StrategyError.
    """
    words = [word.strip() for word in spec.split("+") if word.strip() != "none"]
    kinds = [get(word) for word in words]
    fields = _group(options or {}, words)
    return Pipeline(tuple(_construct(kind, fields.get(kind.name, {})) for kind in kinds)).check()


def _group(options: Options, words: list[str]) -> dict[str, dict[str, Any]]:
    """`{"a.x": 1}` or `{"a": {"x": 1}}` as `{"a": {"x": 1}}`; options of strategies not in the spec are refused."""
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        owner, _, field = key.partition(".")
        if owner not in words:
            spec = "+".join(words) or "none"
            raise StrategyError(f"the option {key!r} belongs to no strategy of {spec}: {_hint(owner, field, words)}")
        if not field and not isinstance(value, Mapping):
            raise StrategyError(f"the option {key!r} needs a field: write {owner}.FIELD=VALUE")
        grouped.setdefault(owner, {}).update({field: value} if field else dict(value))
    return grouped


def _hint(owner: str, field: str, words: list[str]) -> str:
    if near := difflib.get_close_matches(owner, words, n=1):
        return f"did you mean {near[0]}.{field or 'FIELD'}?"
    if holders := [word for word in words if not field and owner in vars(get(word)).get("__dataclass_fields__", ())]:
        return f"did you mean {holders[0]}.{owner}?"
    return f"write {'+'.join([*words, owner])} to use it" if owner in names() else "leave it out"


def _construct(kind: type[Strategy], options: Mapping[str, Any]) -> Strategy:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not dataclasses.is_dataclass(kind):
        raise StrategyError(f"{kind.name} is no dataclass: write @dataclass(frozen=True) above class {kind.__name__}")
    config = OmegaConf.structured(kind)
    for key, value in options.items():
        try:
            config = OmegaConf.merge(config, {key: None if value == "none" else value})
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0].replace(f"'{kind.__name__}'", kind.name)
            reason = reason.replace("'$VALUE' of type '$VALUE_TYPE' ", "")  # OmegaConf 2.4 leaves these in tuples
            types = {field.name: field.type for field in dataclasses.fields(kind)}
            hint = f"fields of {kind.name}: {', '.join(types) or 'none'}"
            if key in types:
                hint = types[key] if isinstance(types[key], str) else inspect.formatannotation(types[key])
                hint = f"{kind.name}.{key} is {hint}"
            raise StrategyError(f"{kind.name}.{key}={value}: {reason} ({hint})") from None
    try:
        return OmegaConf.to_object(config)  # pyright: ignore[reportReturnType]
    except (ValueError, OmegaConfBaseException) as error:
        raise StrategyError(str(error).splitlines()[0]) from None
