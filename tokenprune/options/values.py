"""One value of a key: read from text, held to its type, checked, and written as it is typed.

Light to import: the command line reads its help from modules that stand on this one.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tokenprune.errors import ConfigError

# how the frames of a video file are spread: evenly by number, or by the clock
SAMPLINGS = ("index", "time")
# what a video with fewer frames than asked for shows: each once, or some again and again
SHORTS = ("once", "repeat")
AUTO = "auto"  # a number that is found out
Size = int | Literal["auto"]
_BOUNDARY = re.compile(r",(?![^\[({]*[\])}])")  # a comma outside brackets

# by type, what messages call a value of it, and what they write for one
_WANTED: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "NUMBER"),
    float: ("a number", "NUMBER"),
    bool: ("true or false", "true"),
}


def as_typed(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_typed, value))}]"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_value(name: str, text: str) -> Any:
    """`text` as YAML has it. ConfigError where that cannot be read."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        parsed = OmegaConf.from_dotlist([f"value={text}"])
        value = OmegaConf.select(parsed, "value", throw_on_missing=True)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except (OmegaConfBaseException, YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"'{name}={text}' cannot be read: {reason}") from None


def split(name: str, text: str) -> list[str]:
    """`a,[b,c]` as `a` and `[b,c]`. ConfigError where nothing stands between two commas."""
    parts = [part.strip() for part in _BOUNDARY.split(text)]
    if not all(parts):
        rest = ",".join(filter(None, parts)) or "A,B"
        raise ConfigError(f"{name}={text} has nothing between two commas: write {name}={rest}")
    return parts


def from_text(name: str, text: str, kind: Any, example: str = "") -> Any:
    """The value of a field of type `kind` that is given as `name=text`: text as it stands where
    the field is text, a list with or without brackets, anything else as YAML has it.

    `example` is a value to write instead of one of another type. Raises ConfigError.
    """
    plain, optional = without_none(kind)
    if optional and text == "null":
        return None
    if plain is str:
        return text
    if typing.get_origin(plain) is not list:
        return typed(name, read_value(name, text), kind, example)
    whole = text.startswith("[") and len(_BOUNDARY.split(text)) == 1
    if whole:
        return typed(name, read_value(name, text), kind, example)
    (inner,) = typing.get_args(plain)
    return [from_text(name, part, inner, example) for part in split(name, text)]


def typed(name: str, value: Any, kind: Any, example: str = "") -> Any:
    """`value`, read from YAML, as one of type `kind`. ConfigError says what to write instead."""
    plain, optional = without_none(kind)
    if plain is Any or (optional and value is None):
        return value
    plain, words = without_words(plain)
    if isinstance(value, str) and value in words:
        return value
    origin = typing.get_origin(plain) or plain
    if origin is list:
        return _list(name, value, typing.get_args(plain)[0], example)
    if origin is dict:
        return _mapping(name, value, (*typing.get_args(plain), Any)[1])
    if dataclasses.is_dataclass(plain):
        return _record(name, value, plain)
    if origin is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is origin:
        return value
    wanted, word = _WANTED.get(origin, ("text", "TEXT"))
    instead = example or word
    raise ConfigError(f"{name}={as_typed(value)} is not {wanted}: write {name}={instead}")


def without_none(kind: Any) -> tuple[Any, bool]:
    """`X | None` as X and True, any other type as it is and False."""
    nothing = type(None)
    if not _is_union(kind) or nothing not in typing.get_args(kind):
        return kind, False
    left = tuple(part for part in typing.get_args(kind) if part is not nothing)
    return typing.Union[left], True  # noqa: UP007  of one type, that is it


def without_words(kind: Any) -> tuple[Any, tuple[str, ...]]:
    """`X | Literal["a", "b"]` as X and its words, any other type as it is and none."""
    if not _is_union(kind):
        return kind, ()
    parts = typing.get_args(kind)
    words = [word for part in parts if _is_literal(part) for word in typing.get_args(part)]
    (plain,) = (part for part in parts if not _is_literal(part))
    return plain, tuple(words)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _is_literal(kind: Any) -> bool:
    return typing.get_origin(kind) is Literal


def _list(name: str, value: Any, inner: Any, example: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{name}={as_typed(value)} is not a list: write {name}=[A,B]")
    return [typed(name, part, inner, example) for part in value]


def _mapping(name: str, value: Any, inner: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}={as_typed(value)} has no keys: write {name}.KEY=VALUE")
    return {str(key): typed(f"{name}.{key}", part, inner) for key, part in value.items()}


def _record(name: str, value: Any, schema: Any) -> Any:
    """A dataclass inside a file's list, such as one strategy of a study."""
    hints = typing.get_type_hints(schema)
    # a field whose key is a word of Python has a line behind its name: from_ is `from:`
    fields = {field.name.rstrip("_"): field for field in dataclasses.fields(schema)}
    keys = list(fields)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{name}={as_typed(value)} has no keys: write {keys[0]}: VALUE, one a line"
        )
    for key in value:
        if key not in keys:
            near = next(iter(difflib.get_close_matches(str(key), keys, n=1)), None)
            hint = f": did you mean {near}?" if near else "."
            raise ConfigError(f"unknown key {key!r} in {name}{hint} Keys: {', '.join(keys)}")
    missing = [key for key, field in fields.items() if _needed(field) and key not in value]
    if missing:
        raise ConfigError(f"{name} has no {missing[0]}: write {missing[0]}: VALUE")
    found = {fields[key].name: part for key, part in value.items()}
    return schema(
        **{own: typed(f"{name}.{own.rstrip('_')}", part, hints[own]) for own, part in found.items()}
    )


def _needed(field: Any) -> bool:
    """Whether a field of a dataclass has no default."""
    nothing = dataclasses.MISSING
    return field.default is nothing and field.default_factory is nothing


def check_counts(config: Any, *names: str) -> None:
    """ConfigError where one of these fields is a number below 1; None and words are none."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"{name}={value} is too few: write at least 1")


def check_sampling(value: str) -> None:
    """ConfigError for another way of choosing frames than there is."""
    if value not in SAMPLINGS:
        raise ConfigError(f"sampling={value} is unknown: write {' or '.join(SAMPLINGS)}")


def check_short(value: str) -> None:
    """ConfigError for another way with short videos than there is."""
    if value not in SHORTS:
        raise ConfigError(f"short={value} is unknown: write {' or '.join(SHORTS)}")


def check_once(name: str, values: Sequence[Any]) -> None:
    """ConfigError for a value that `values` have twice."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigError(f"{name}= names {as_typed(value)} twice: leave one of them out")


def check_fraction(name: str, value: float, example: str) -> None:
    """ConfigError for what is not above 0 and up to 1, also for a percentage."""
    if not 0.0 < value <= 1.0:
        instead = f"{value / 100:g}" if 1.0 < value <= 100.0 else example
        raise ConfigError(
            f"{name}={value:g} is not a fraction above 0 and up to 1: write {name}={instead}"
        )
