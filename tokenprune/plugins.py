"""A user's Python file that brings strategies, tasks or model families: `plugin=FILE`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from tokenprune.errors import ConfigError, TokenpruneError
from tokenprune.lookup import PLUGGABLE

PLUGIN = "tokenprune_plugin_"  # before the name of a plug-in's file: its module's name
REMEMBERED = "__tokenprune_source__"  # in a plug-in's module: the bytes that were run


def load_plugins(names: Iterable[str]) -> None:
    """`load_plugin` for each of several files, which have names of their own."""
    stems: dict[str, str] = {}
    for name in names:
        other = stems.setdefault(Path(name).stem, name)
        if other != name:
            raise ConfigError(f"plugin={other} and plugin={name} have one name: rename one of them")
        load_plugin(name)


def load_plugin(name: str) -> None:
    """Runs a file that defines strategies, tasks or model families, which registers them.

    ConfigError says where it fails.
    """
    for kind in PLUGGABLE:
        kind.names()  # first, so that a name that is taken is the file's mistake
    file = Path(name).expanduser().absolute()
    if not file.is_file():
        raise ConfigError(
            f"plugin={name} is not a file: name a Python file that defines a strategy"
        )
    module_name = f"{PLUGIN}{file.stem}"  # never in the way of a real module
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin={name} is not a Python file: its name has to end in .py")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        _run(module, file.read_bytes())
    except TokenpruneError:
        raise
    except (Exception, SystemExit) as error:
        lines = [
            step.lineno
            for step in traceback.extract_tb(error.__traceback__)
            if step.filename == str(file)
        ]
        if isinstance(error, SyntaxError) and error.filename == str(file):
            lines = [error.lineno]
        where = f"in line {lines[-1]}" if lines else "to load"
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"plugin={file} fails {where}: {type(error).__name__}: {reason}"
        ) from error
    if not any(kind.defined_by(module) for kind in PLUGGABLE):
        raise ConfigError(
            f'plugin={file} defines nothing: write class Mine(VisionStage, name="mine") in it, or '
            'class Mine(Task, name="mine"), with that name'
        )


def _run(module: ModuleType, content: bytes) -> None:
    """Runs `content` as the source of `module`, which remembers it: an edit of its file changes
    neither.

    No compiled copy is read or left: Python trusts one whose source has the same size and second.
    """
    setattr(module, REMEMBERED, content)
    exec(compile(content, str(module.__file__), "exec", dont_inherit=True), vars(module))
