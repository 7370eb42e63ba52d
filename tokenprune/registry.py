"""Words to pipelines: `build("dycoke+dytok", {"dycoke.merge": 0.5})`.

Where strategies come from, `lookup` says: files of `tokenprune/strategies/`, the entry-point group
`tokenprune.strategies`, or a subclass of the user's own.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from tokenprune.declaration import check_class
from tokenprune.errors import ConfigError, StrategyError
from tokenprune.guards import blame
from tokenprune.lookup import STRATEGIES
from tokenprune.strategy import Pipeline, Strategy

Options = Mapping[str, Any]


def names() -> list[str]:
    """All registered strategy names, sorted."""
    return STRATEGIES.names()


def get(name: str) -> type[Strategy]:
    """The strategy class called `name`; StrategyError lists the known ones and the nearest."""
    return STRATEGIES.find(name)


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
