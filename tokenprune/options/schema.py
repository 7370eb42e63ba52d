"""The dataclass that is a command's schema: its keys, their help, and what others may mean.

Light to import: the command line reads its help from modules that stand on this one.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, field
from typing import Any

from tokenprune.errors import ConfigError

AND_OPTIONS = ", and STRATEGY.FIELD"  # after the keys of a command that takes them
OPTIONS = "options"  # the field that has those of strategies


def key(default: Any, meaning: str, *, example: str = "", repeated: bool = False) -> Any:
    """A field of a command's dataclass: its default or, for lists and dictionaries, what makes one,
    and its help.

    `example` is a value that messages name; `repeated`: each word adds one to a list.
    """
    about = {"help": meaning, "example": example, "repeated": repeated}
    if callable(default):
        return field(default_factory=default, metadata=about)
    return field(default=default, metadata=about)


def own_first(schema: type) -> list[Field[Any]]:
    """The fields of a command's dataclass in the order of its help: those it has to itself, then
    inherited ones, the nearest first.
    """
    parents: list[Any] = [base for base in schema.__mro__[1:] if dataclasses.is_dataclass(base)]
    inherited = [one.name for base in parents for one in dataclasses.fields(base)]
    every: Any = schema
    return sorted(dataclasses.fields(every), key=lambda one: inherited.count(one.name))


def keys_of(schema: type) -> list[str]:
    """What may stand before `=`, without keys that have a dot."""
    hints = typing.get_type_hints(schema)
    plain = [one for one in own_first(schema) if typing.get_origin(hints[one.name]) is not dict]
    return [one.name for one in plain if "help" in one.metadata]


def group_of(schema: type, name: str) -> tuple[str, str]:
    """The dictionary that a key with a dot belongs to, and its key there.

    A key that holds one value has none: `reuse.threshold` is a strategy's, beside `reuse=false`.
    """
    owner, _, inner = name.partition(".")
    kinds = typing.get_type_hints(schema)
    own = owner in {one.name for one in dataclasses.fields(schema)} - {OPTIONS}
    gathers = own and typing.get_origin(kinds[owner]) is dict
    return (owner, inner) if gathers else (OPTIONS, name)


def known(name: str, keys: Sequence[str], also: str = "") -> None:
    """ConfigError where `name` is none of `keys`, with the nearest of them; `also` says what else
    there is.
    """
    if name not in keys:
        raise ConfigError(f"unknown key {name!r}{meant(name, keys)} Keys: {', '.join(keys)}{also}")


def meant(name: str, keys: Sequence[str]) -> str:
    """How a sentence about an unknown key goes on."""
    near = nearest(name, keys)
    return f": did you mean {near}=?" if near else "."


def nearest(name: str, names: Sequence[str], cutoff: float = 0.5) -> str | None:
    """The one of `names` that `name` is most like, if any is at least `cutoff` alike."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=cutoff)), None)


def strategies(spec: str) -> list[str]:
    """`a+b` as `[a, b]`."""
    return [name.strip() for name in spec.split("+")]


def options_of(spec: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options`, by keys like `a.field`, that belong to a strategy of `spec`."""
    names = strategies(spec)
    return {key: value for key, value in options.items() if key.partition(".")[0] in names}


def check_owners(options: Iterable[str], specs: Sequence[str]) -> None:
    """ConfigError for an option of a strategy that none of `specs` names."""
    named = sorted({name for spec in specs for name in strategies(spec)})
    for option in options:
        owner, _, name = option.partition(".")
        if owner not in named:
            near = nearest(owner, named)
            hint = (
                f"did you mean {near}.{name}=?" if near else f"add {owner} to it, or leave it out"
            )
            raise ConfigError(
                f"{option}= is an option of no strategy in strategy={','.join(specs)}: {hint}"
            )
