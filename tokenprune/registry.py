"""Words to pipelines: `build("dycoke+dytok", {"dycoke.merge": 0.5})`.

Built-in strategies are the files of `tokenprune/strategies/`, imported on first use; third parties
register through the entry-point group `tokenprune.strategies` or simply by subclassing.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import logging
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from tokenprune import strategies
from tokenprune.declaration import check_class
from tokenprune.errors import ConfigError, NameTakenError, StrategyError
from tokenprune.guards import blame
from tokenprune.strategy import REGISTERED, Pipeline, Strategy

Options = Mapping[str, Any]

_log = logging.getLogger(__name__)


@cache
def _discover() -> dict[str, str]:
    """Imports the built-in strategies and the installed ones; by name, why one of the latter cannot
    be used.

    A package that does not import is told of once, in a line on stderr (by Python's logging, where
    nobody has set it up), and is an error for whoever asks for its strategy; everybody else's
    commands work.
    """
    for module in pkgutil.iter_modules(strategies.__path__):
        importlib.import_module(f"{strategies.__name__}.{module.name}")
    wrong: dict[str, str] = {}
    first = set(REGISTERED)  # the built-in ones, and what the user's own program has defined
    for point in entry_points(group="tokenprune.strategies"):
        package = (
            f"the installed package {point.dist.name!r}"
            if point.dist
            else f"the module {point.value!r}"
        )
        before = dict(REGISTERED)
        try:
            point.load()
        except (Exception, SystemExit) as error:
            REGISTERED.clear()  # nothing of what was half imported
            REGISTERED.update(before)
            reason = " ".join(str(error).split()) or type(error).__name__
            told = (
                f"the strategy {point.name!r} of {package} does not import ({reason}): update "
                "or uninstall that package"
            )
            wrong[point.name] = told
            if isinstance(error, NameTakenError) and error.taken not in first:
                wrong[error.taken] = told
                # of two packages with one name nobody can say which is meant
                del REGISTERED[error.taken]
            _log.warning("tokenprune: %s", told)
            continue
        if point.name not in REGISTERED:
            new = sorted(set(REGISTERED) - set(before))
            instead = f"write {' or '.join(new)}" if new else "update or uninstall that package"
            wrong[point.name] = (
                f"the entry point {point.name!r} of {package} defines no strategy of that name: "
                f"{instead}"
            )
            if not new:
                _log.warning("tokenprune: %s", wrong[point.name])
    return wrong


def names() -> list[str]:
    """All registered strategy names, sorted."""
    _discover()
    return sorted(REGISTERED)


def get(name: str) -> type[Strategy]:
    """The strategy class called `name`; StrategyError lists the known ones and the nearest."""
    wrong = _discover()
    if name in REGISTERED:
        return REGISTERED[name]
    if name in wrong:
        raise StrategyError(wrong[name])
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise StrategyError(f"unknown strategy {name!r}: {hint}Known: {', '.join([*names(), 'none'])}")


def defined_by(module: ModuleType) -> list[str]:
    """Names of third parties' strategies that a module defines, imports, or imports the module or
    package of.
    """
    values = list(vars(module).values())
    homes = [
        module.__name__,
        *(value.__name__ for value in values if isinstance(value, ModuleType)),
    ]
    found = []
    for name, kind in REGISTERED.items():
        inside = any(f"{kind.__module__}.".startswith(f"{home}.") for home in homes)
        if blame.foreign(kind) and (inside or any(value is kind for value in values)):
            found.append(name)
    return found


def build(spec: str, options: Options | None = None) -> Pipeline:
    """The checked pipeline that `spec` (`a+b`, or `none`) names, with options like `{"a.keep":
    0.5}`.

    The dataclass of a strategy is the schema of its options: unknown keys and wrong types raise
    StrategyError.
    """
    words = [word.strip() for word in spec.split("+") if word.strip() != "none"]
    kinds = [get(word) for word in words]
    fields = _group(options or {}, words)
    return Pipeline(tuple(_construct(kind, fields.get(kind.name, {})) for kind in kinds)).check()


def _group(options: Options, words: list[str]) -> dict[str, dict[str, Any]]:
    """`{"a.x": 1}` or `{"a": {"x": 1}}` as `{"a": {"x": 1}}`; options of strategies not in the spec
    are refused.
    """
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        owner, _, field = key.partition(".")
        if owner not in words:
            spec = "+".join(words) or "none"
            raise StrategyError(
                f"the option {key!r} belongs to no strategy of {spec}: {_hint(owner, field, words)}"
            )
        if not field and not isinstance(value, Mapping):
            raise StrategyError(f"the option {key!r} needs a field: write {owner}.FIELD=VALUE")
        grouped.setdefault(owner, {}).update({field: value} if field else dict(value))
    return grouped


def _hint(owner: str, field: str, words: list[str]) -> str:
    if near := difflib.get_close_matches(owner, words, n=1):
        return f"did you mean {near[0]}.{field or 'FIELD'}?"
    if holders := [
        word
        for word in words
        if not field and owner in vars(get(word)).get("__dataclass_fields__", ())
    ]:
        return f"did you mean {holders[0]}.{owner}?"
    return f"write {'+'.join([*words, owner])} to use it" if owner in names() else "leave it out"


def _construct(kind: type[Strategy], options: Mapping[str, Any]) -> Strategy:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    check_class(kind)
    try:
        config = OmegaConf.structured(kind)
    except (OmegaConfBaseException, NameError, TypeError) as error:
        raise StrategyError(
            f"{blame.home(kind)}: the fields of class {kind.__name__} are no options "
            f"({' '.join(str(error).split())}): "
            "annotate them as numbers, words, switches, or tuples of these"
        ) from None
    for key, value in options.items():
        try:
            config = OmegaConf.merge(config, {key: None if value == "none" else value})
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0].replace(f"'{kind.__name__}'", kind.name)
            # OmegaConf 2.4 leaves these in tuples
            reason = reason.replace("'$VALUE' of type '$VALUE_TYPE' ", "")
            types = {field.name: field.type for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
            hint = f"fields of {kind.name}: {', '.join(types) or 'none'}"
            if key in types:
                hint = (
                    types[key]
                    if isinstance(types[key], str)
                    else inspect.formatannotation(types[key])
                )
                hint = f"{kind.name}.{key} is {hint}"
            raise StrategyError(f"{kind.name}.{key}={value}: {reason} ({hint})") from None
    try:
        return blame.call(kind, "__post_init__", OmegaConf.to_object, config)
    except (ValueError, OmegaConfBaseException) as error:
        reason = str(error).splitlines() or [
            f"{kind.name}.__post_init__ refuses its options without a word"
        ]
        raise StrategyError(reason[0]) from None


def resolve(
    spec: str, options: Options | None = None, *, seed: int, assistant: str | None = None
) -> Pipeline:
    """The pipeline of `spec`; strategies with a `seed` of their own follow `seed` unless told
    otherwise.

    Raises ConfigError, also for an `assistant` that has nothing to guide, and StrategyError.
    """
    if not spec:
        raise ConfigError("nothing to run: write strategy=NAME, as in strategy=dycoke+dytok")
    pipeline = build(spec, options)
    seeded = {
        f"{strategy.name}.seed": seed
        for strategy in pipeline.strategies
        if any(field.name == "seed" for field in dataclasses.fields(strategy))  # pyright: ignore[reportArgumentType]
    }
    if assistant is not None and pipeline.allocator is None:
        raise ConfigError(
            f"assistant= guides an allocator, and {pipeline} has none: add +dytok, or leave it out"
        )
    return build(spec, {**seeded, **(options or {})})


def resolved_fields(pipeline: Pipeline) -> dict[str, dict[str, object]]:
    """Every field of every strategy, defaults included."""
    return {
        strategy.name: dataclasses.asdict(strategy)  # pyright: ignore[reportArgumentType]  a strategy is a dataclass
        for strategy in pipeline.strategies
    }
