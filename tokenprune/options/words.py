"""`KEY=VALUE` words to a command's dataclass, and what is said about words that mean nothing."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from tokenprune.errors import ConfigError
from tokenprune.options.files import from_file
from tokenprune.options.schema import (
    AND_OPTIONS,
    OPTIONS,
    group_of,
    keys_of,
    known,
    nearest,
    own_first,
)
from tokenprune.options.values import from_text, read_value, split

Schema = TypeVar("Schema")

# keys that a command may take besides those of its schema
CONFIG, PRINT = "config", "print"
BESIDES = {
    CONFIG: "a config.yaml that this command has written: the other words override it",
    PRINT: "true: show as YAML what would run, and run nothing",
}


def read_options(
    schema: type[Schema],
    words: Sequence[str],
    *,
    section: str | None = None,
    bare: str | None = None,
    swept: bool = False,
) -> Schema:
    """The `schema` that `words` describe, see `given`. Raises ConfigError."""
    return schema(**given(schema, words, section=section, bare=bare, swept=swept))


def given(
    schema: type,
    words: Sequence[str],
    *,
    section: str | None = None,
    bare: str | None = None,
    swept: bool = False,
) -> dict[str, Any]:
    """The fields of `schema` that `words` set, typed; each key stands once and with a value.

    `section` names the part of a file that belongs to the command, which then takes `config=FILE`.
    `bare` is the field that words without `=` go to: text takes one of them, a list all.
    `swept`: options of strategies are lists of values, with commas between them.
    Raises ConfigError.
    """
    keys = [name for name in keys_of(schema) if name != bare]
    keys += [] if section is None else BESIDES
    texts = _by_key(schema, words, keys, bare)
    values: dict[str, Any] = {}
    if section is not None and CONFIG in texts:
        values = from_file(schema, _one(CONFIG, texts.pop(CONFIG)), section)
    for name, found in texts.items():
        if "." in name:
            group, inner = group_of(schema, name)
            value = _option(name, _one(name, found), swept and group == OPTIONS)
            values[group] = {**values.get(group, {}), inner: value}
        else:
            values[name] = _value(schema, name, found, taken=name == bare)
    return values


def _by_key(
    schema: type, words: Sequence[str], keys: Sequence[str], bare: str | None
) -> dict[str, list[str]]:
    """What stands behind each key, as often as it stands there."""
    fields = {field.name for field in own_first(schema)}
    takes_options = OPTIONS in fields
    texts: dict[str, list[str]] = {}
    for word in words:
        if bare is not None and _is_bare(word, keys):
            texts.setdefault(bare, []).append(word)
            continue
        name, text = parse_pair(word, keys)
        if name in fields and name not in keys:  # gathers keys with a dot, or is a file's alone
            raise ConfigError(f"{word!r} is not a key by itself: {_instead(schema, name)}")
        option = "." in name and (takes_options or group_of(schema, name)[0] != OPTIONS)
        if not option:
            known(name, keys, AND_OPTIONS if takes_options else "")
        if not text.strip():
            raise ConfigError(f"{name}= is empty: write {name}=VALUE, or leave it out")
        texts.setdefault(name, []).append(text)
    return texts


def _instead(schema: type, name: str) -> str:
    if name == OPTIONS:
        return "write STRATEGY.FIELD=VALUE"
    gathers = typing.get_origin(typing.get_type_hints(schema)[name]) is dict
    return f"write {name}.KEY=VALUE" if gathers else "write it into a file"


def _value(schema: type, name: str, found: Sequence[str], taken: bool) -> Any:
    """A field's value. `taken`: of words that stand without their key."""
    (field,) = (one for one in own_first(schema) if one.name == name)
    kind = typing.get_type_hints(schema)[name]
    many = typing.get_origin(kind) is list
    if many and (taken or field.metadata["repeated"]):
        return list(found)
    if taken and len(found) > 1:
        raise _no_pair(found[1], [key for key in keys_of(schema) if key != name])
    text = _one(name, found, "write {name}=A,B for several" if many else "leave one of them out")
    return from_text(name, text, kind, field.metadata.get("example", ""))


def _one(name: str, found: Sequence[str], instead: str = "leave one of them out") -> str:
    if len(found) > 1:
        raise ConfigError(f"{name}= is given twice: {instead.format(name=name)}")
    return found[0]


def _option(name: str, text: str, swept: bool) -> Any:
    if not swept:
        return read_value(name, text)
    return [read_value(name, part) for part in split(name, text)]


def printing(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether `print=true` is among `words`, and the others. Raises ConfigError."""
    return switched(PRINT, words)


def switched(name: str, words: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether `name=true` is among `words`, and the others: a switch of a command that is no key of
    its schema, since what it does is written down nowhere. Raises ConfigError.
    """
    mine = [word for word in words if word.startswith(f"{name}=")]
    if not mine:
        return False, list(words)
    text = _one(name, [word.partition("=")[2] for word in mine])
    if not text:
        raise ConfigError(f"{name}= is empty: write {name}=true, or leave it out")
    wanted = bool(from_text(name, text, bool, "true"))
    return wanted, [word for word in words if word not in mine]


def parse_pair(word: str, keys: Sequence[str]) -> tuple[str, str]:
    """`KEY=VALUE` as its two sides. ConfigError says what a word of another form may mean."""
    name, equals, text = word.partition("=")
    if not equals or not name or name.startswith("-"):
        raise _no_pair(word, keys)
    return name, text


def _no_pair(word: str, keys: Sequence[str]) -> ConfigError:
    name, _, text = word.lstrip("-").partition("=")
    near = nearest(name, keys, cutoff=0.6)
    named = "strategy" in keys and re.sub("[+,]", "", word).isidentifier()
    if near:
        instead = f"write {near}={text or 'VALUE'}"
    elif named:
        instead = f"write strategy={word}"
    else:
        instead = f"write one of {', '.join(f'{key}=' for key in keys)}"
    return ConfigError(f"{word!r} is not KEY=VALUE: {instead}")


def _is_bare(word: str, keys: Sequence[str]) -> bool:
    """Whether a word is the name of something: it has no `=`, or is a file whose name has one."""
    name, equals, _ = word.partition("=")
    if not word or word.startswith("-"):
        return False
    return not equals or ("." not in name and name not in keys and Path(word).exists())
