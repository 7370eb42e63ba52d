"""What study, sweep and bench still read their words with, until they use `read_options`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tokenprune.errors import ConfigError
from tokenprune.options.schema import AND_OPTIONS, known
from tokenprune.options.values import as_typed as shown
from tokenprune.options.values import read_value
from tokenprune.options.words import parse_pair as pair

Number = TypeVar("Number")
__all__ = ["number", "one_of", "pairs", "plain", "read", "shown", "structured"]


def read(word: str) -> Any:
    name, _, text = word.partition("=")
    return read_value(name, text)


def pairs(words: Iterable[str], keys: Sequence[str], twice: str) -> dict[str, str]:
    """The values of `words` by key: each of `keys`, or an option of a strategy, once and with a
    value.

    Raises ConfigError; `twice` is what to write instead of a second one, where `{name}` stands for
    the key.
    """
    given: dict[str, str] = {}
    for word in words:
        name, text = pair(word, keys)
        if name in given:
            raise ConfigError(f"{name}= is given twice: {twice.format(name=name)}")
        if not text.strip():
            raise ConfigError(f"{name}= is empty: write {name}=VALUE, or leave it out")
        if "." not in name:
            known(name, keys, AND_OPTIONS)
        given[name] = text
    return given


def one_of(word: str, keys: Sequence[str]) -> ConfigError:
    """About a word that is no pair, where only pairs may stand."""
    return ConfigError(
        f"{word!r} is no KEY=VALUE: write one of {', '.join(f'{key}=' for key in keys)}"
    )


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
