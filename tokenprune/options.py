"""`KEY=VALUE` words as every command reads them, and what it says about those that mean nothing.

Light to import: the command line reads its help from modules that stand on this one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass
from typing import Any, TypeVar

from tokenprune.errors import ConfigError

Number = TypeVar("Number")

AND_OPTIONS = ", and STRATEGY.FIELD"  # after the keys of a command that takes them
# how the frames of a video file are spread: evenly by number, or by the clock
SAMPLINGS = ("index", "time")


def key(default: Any, meaning: str) -> Any:
    """A field of a command's dataclass: its default or, for lists and dictionaries, what makes one,
    and its help.
    """
    if callable(default):
        return field(default_factory=default, metadata={"help": meaning})
    return field(default=default, metadata={"help": meaning})


def own_first(schema: type) -> list[Field[Any]]:
    """The fields of a command's dataclass in the order of its help: those it has to itself, then
    inherited ones.
    """
    inherited = {
        one.name for base in schema.__bases__ if is_dataclass(base) for one in fields(base)
    }
    return sorted(fields(schema), key=lambda one: one.name in inherited)


def pair(word: str, keys: Sequence[str], joined: str = "+") -> tuple[str, str]:
    """`KEY=VALUE` as its two sides. ConfigError says what a word of another form may mean.

    `keys` are the command's, `joined` the signs that its `strategy=` joins names with.
    """
    name, equals, text = word.partition("=")
    if equals and name:
        return name, text
    if near := nearest(word.lstrip("-"), keys, cutoff=0.6):
        raise ConfigError(f"{word!r} is no KEY=VALUE: write {near}=VALUE")
    named = re.sub(f"[{joined}]", "", word).isidentifier()
    raise ConfigError(
        f"{word!r} is no KEY=VALUE: write {f'strategy={word}' if named else 'KEY=VALUE'}"
    )


def pairs(words: Iterable[str], keys: Sequence[str], twice: str) -> dict[str, str]:
    """The values of `words` by key: each of `keys`, or an option of a strategy, once and with a
    value.

    Raises ConfigError; `twice` is what to write instead of a second one, where `{name}` stands for
    the key.
    """
    given: dict[str, str] = {}
    for word in words:
        name, text = pair(word, keys, "+,")
        if name in given:
            raise ConfigError(f"{name}= is given twice: {twice.format(name=name)}")
        if not text.strip():
            raise ConfigError(f"{name}= is empty: write {name}=VALUE, or leave it out")
        if "." not in name:
            known(name, keys, AND_OPTIONS)
        given[name] = text
    return given


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


def one_of(word: str, keys: Sequence[str]) -> ConfigError:
    """About a word that is no pair, where only pairs may stand."""
    return ConfigError(
        f"{word!r} is no KEY=VALUE: write one of {', '.join(f'{key}=' for key in keys)}"
    )


def read(word: str) -> Any:
    """The value of `KEY=VALUE` as YAML has it. ConfigError where that cannot be read."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        value = OmegaConf.select(
            OmegaConf.from_dotlist([word]), word.partition("=")[0], throw_on_missing=True
        )
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{word!r} cannot be read: {str(error).splitlines()[0]}") from None


def structured(schema: type, values: Mapping[str, Any]) -> Any:
    """`schema`, a dataclass, with `values` for its fields, as OmegaConf.

    ConfigError for one of another type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    typed = OmegaConf.structured(schema)
    for name, value in values.items():
        try:
            typed = OmegaConf.merge(typed, {name: value})
        except OmegaConfBaseException as error:
            raise ConfigError(f"{name}={value}: {str(error).splitlines()[0]}") from None
    return typed


def plain(name: str, text: str, kind: str) -> Any:
    """The value of a key whose annotation is `kind`: a number, or the text itself.

    Raises ConfigError.
    """
    if kind.startswith("int"):
        return number(name, text, int, "one whole number")
    return (
        number(name, text, float, f"a fraction, as in {name}=0.25")
        if kind.startswith("float")
        else text
    )


def number(name: str, text: str, kind: Callable[[str], Number], wanted: str) -> Number:
    """`kind(text)`. ConfigError says what is `wanted` instead of it."""
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{name}={text} is no number: write {wanted}") from None


def split(name: str, text: str) -> list[str]:
    """`a,[b,c]` as `a` and `[b,c]`. ConfigError where nothing stands between two commas."""
    parts = [part.strip() for part in re.split(r",(?![^\[({]*[\])}])", text)]
    if not all(parts):
        rest = ",".join(filter(None, parts)) or "A,B"
        raise ConfigError(f"{name}={text} has nothing between two commas: write {name}={rest}")
    return parts


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


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


def check_counts(config: Any, *names: str) -> None:
    """ConfigError where one of these fields is a number below 1; None is no number."""
    for name in names:
        if (value := getattr(config, name)) is not None and value < 1:
            raise ConfigError(f"{name}={value} is no number of anything: write at least 1")


def check_sampling(value: str) -> None:
    """ConfigError for another way of choosing frames than there is."""
    if value not in SAMPLINGS:
        raise ConfigError(f"sampling={value} is unknown: write {' or '.join(SAMPLINGS)}")


def check_once(name: str, values: Sequence[Any]) -> None:
    """ConfigError for a value that `values` have twice."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigError(f"{name}= names {shown(value)} twice: leave one of them out")


def check_fraction(name: str, value: float, example: str) -> None:
    """ConfigError for what is not above 0 and up to 1, also for a percentage."""
    if not 0.0 < value <= 1.0:
        instead = f"{value / 100:g}" if 1.0 < value <= 100.0 else example
        raise ConfigError(
            f"{name}={value:g} is no fraction above 0 and up to 1: write {name}={instead}"
        )
