"""What a file of this folder says about its command, and what all of them print with."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenprune.options import BESIDES, as_typed, own_first

WIDTH = 80  # of what commands say at the end
DETAILS = "details"  # a word of how results are shown, which changes none of them
_WIDE = 140  # of tables that go to a file or another program


@dataclass(frozen=True)
class Command:
    """A command of `tokenprune`."""

    name: str  # of one word, or of two: `data export`
    brief: str  # its line in the list of commands
    about: str  # what its own --help says
    words: str  # what stands behind it
    run: Callable[[Sequence[str], str], None]  # its words, and the whole command line
    group: str = ""  # what the --help of the first of two words says
    foreign: bool = False  # reads options like --model by itself, --help among them
    schema: type | None = None  # the dataclass of its keys, which a shell completes


def keys(schema: type, besides: bool = False) -> str:
    """A line of help for each key of a command's dataclass; `besides`: and for those that are not
    in it.
    """
    lines = [_line(one) for one in own_first(schema) if one.metadata.get("help")]
    more = [f"  {name:<16} {meaning}" for name, meaning in BESIDES.items() if besides]
    return "\n".join([*lines, *more])


def _line(one: dataclasses.Field[Any]) -> str:
    made = one.default_factory
    value = one.default if made is dataclasses.MISSING else made()
    default = ""
    if value not in (None, "", {}, []):
        default = f" {as_typed(value)}" if isinstance(value, list) else f" [{as_typed(value)}]"
    return f"  {one.name:<16} {one.metadata['help']}{default}"


def console(most: int = _WIDE) -> Any:
    """Where tables go: as wide as the terminal, or `most` characters where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else most)


def narrow() -> Any:
    """Where goes what a command has found: at most `WIDTH` characters, whatever the terminal."""
    from rich.console import Console

    screen = Console()
    screen.width = min(WIDTH, screen.width if sys.stdout.isatty() else WIDTH)
    return screen


def as_yaml(values: Mapping[str, Any]) -> str:
    """What `print=true` shows, which `config=` reads back."""
    from yaml import safe_dump

    return safe_dump(_plain(values), sort_keys=False, allow_unicode=True, width=68).rstrip()


def _plain(value: Any) -> Any:
    """Without tuples and other types that YAML has no word for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
