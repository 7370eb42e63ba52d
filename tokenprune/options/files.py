"""A YAML file of a command's keys: one that a command has written, or one written by hand."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options.schema import OPTIONS, group_of, nearest
from tokenprune.options.values import typed

SECTIONS = ("run", "sweep", "study", "bench")  # commands that write such a file
# what the machine has written beside the keys
_MACHINE = ("systems", "environment", "made_with", "strategies", "budget", "folder")
_PLACES = ("out", "resume")  # where another run went is not where this one goes


def from_file(schema: type, name: str, section: str) -> dict[str, Any]:
    """The fields of `schema` that a YAML file sets: all of it, or its part `section`.

    What the machine has written beside that part does not count, nor does where that run went.
    Raises ConfigError.
    """
    content = load_file(name)
    parts = [part for part in SECTIONS if isinstance(content.get(part), Mapping)]
    if section in parts:
        content = content[section]
    elif parts:
        raise ConfigError(f"config={name} is of `tokenprune {parts[0]}`: give it to that command")
    left_out = _PLACES if section in parts else (*_PLACES, *_MACHINE)
    mine = {key: value for key, value in content.items() if key not in left_out}
    return from_mapping(schema, mine, name)


def load_file(name: str) -> dict[str, Any]:
    """The keys of a YAML file. Raises ConfigError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    file = Path(name).expanduser()
    if not file.is_file():
        raise ConfigError(f"there is no file {name}: name a YAML file of KEY: VALUE lines")
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} is not YAML: {reason}") from None
    except OSError as error:  # also for a file that holds one number
        raise ConfigError(f"{name} cannot be read: {error}") from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"{name} holds no keys: write KEY: VALUE, one a line")
    return {str(key): value for key, value in content.items()}


def from_mapping(schema: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of `schema` that the keys of a file set, typed; `where` names it in messages.

    Options of strategies may stand as `fastv.layer: 1` or inside `options:`. Raises ConfigError.
    """
    hints = typing.get_type_hints(schema)
    fields = {one.name: one for one in dataclasses.fields(schema)}
    found: dict[str, Any] = {}
    for name, value in values.items():
        group, inner = group_of(schema, name) if "." in name else ("", "")
        if group in fields:
            found[group] = {**found.get(group, {}), inner: value}
        elif name not in fields:
            near = nearest(name, list(fields))
            hint = f"did you mean {near}? " if near else ""
            raise ConfigError(f"unknown key {name!r} in {where}: {hint}Keys: {', '.join(fields)}")
        else:
            example = fields[name].metadata.get("example", "")
            read = typed(name, value, hints[name], example)
            found[name] = {**found.get(name, {}), **flat(read)} if name == OPTIONS else read
    return found


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a": {"x": 1}}` as `{"a.x": 1}`."""
    found: dict[str, Any] = {}
    for owner, value in options.items():
        if isinstance(value, Mapping):
            found |= {f"{owner}.{name}": inner for name, inner in value.items()}
        else:
            found[owner] = value
    return found
