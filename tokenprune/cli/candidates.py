"""What may stand at the end of an unfinished command line, for the completion of shells.

Imports nothing heavy: names of strategies, and their options, are read in the text of their files.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenprune import checkpoints
from tokenprune.cli.command import DETAILS, Command
from tokenprune.evaluation.config import TRAINER
from tokenprune.evaluation.logs import KEY, LOGGERS
from tokenprune.loading.variant import MAPS, NEWLINES, POOLS, RULES
from tokenprune.lookup import STRATEGIES, TASKS
from tokenprune.options import BESIDES, SAMPLINGS, SHORTS, keys_of, own_first, strategies
from tokenprune.study.launcher import LAUNCHERS, Launched

_SPECS = ("strategy", "allocator")  # values that + joins
_MODELS = ("model", "assistant", "assistants")
_FILES = ("video", "config", "plugin", "out", "resume", "include_path", "template", "report")
_SWITCHES = ("print", DETAILS)
# of submitit's options of Slurm those that most clusters ask for
_SLURM = ("account", "cpus_per_task", "gpus_per_node", "mem", "partition", "qos", "time")
_VALUES: dict[str, Sequence[str]] = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "sampling": SAMPLINGS,
    "short": SHORTS,
    "on_error": ("record", "stop"),
    "batch_size": ("auto",),
    "pool": POOLS,
    "newline": NEWLINES,
    "newline_rule": RULES,
    "device_map": MAPS,
    "bits": ("8", "4"),
    "trainer.strategy": ("ddp",),
    "trainer.accelerator": ("auto", "cpu", "gpu", "mps"),
    f"trainer.{KEY}": tuple(LOGGERS),
    "launcher": LAUNCHERS,
    "trainer.precision": ("32-true", "bf16-true", "16-true", "bf16-mixed", "16-mixed"),
}


def candidates(line: str, commands: Sequence[Command]) -> list[str]:
    """Whole words that the last word of `line` may become; a line that ends with a space has an
    empty one. One that ends with `=`, `/` or `:` goes on.
    """
    words = _split(line)
    last, before = words[-1], words[1:-1]
    named = {command.name: command for command in commands}
    of_two = " ".join(before[:2])
    name = of_two if of_two in named else " ".join(before[:1])
    if name in named:
        found = list(_words(named[name], before[len(name.split()) :], last))
    else:  # of a command's name a word is missing
        start = "".join(f"{word} " for word in before)
        found = [one[len(start) :].partition(" ")[0] for one in named if one.startswith(start)]
    return sorted({word for word in found if word.startswith(last)})


def _split(line: str) -> list[str]:
    """Words of an unfinished line; a quote that is still open ends with it."""
    for end in ("", '"', "'"):
        try:
            words = shlex.split(line + end)
        except ValueError:
            continue
        return words if words and not line[-1:].isspace() else [*words, ""]
    return [""]


def _words(command: Command, before: Sequence[str], last: str) -> Iterator[str]:
    if command.schema is None:
        yield from command.words.split("|") if "|" in command.words else ()
        return
    name, equals, value = last.partition("=")
    if equals:
        yield from (f"{name}={one}" for one in _values(command.schema, name, value))
        return
    given = {word.partition("=")[0] for word in before}
    several = {"plugin"}
    for key in _keys(command, before):
        if key not in given - several:
            yield f"{key}="
    if re.match(r"FILE|FOLDER", command.words):
        yield from _paths(last)
    if command.words.startswith("TASK"):
        yield from TASKS.names()


def _keys(command: Command, before: Sequence[str]) -> Iterator[str]:
    """Keys of a command, and options of the strategies that it has been given."""
    assert command.schema is not None
    own = keys_of(command.schema)
    yield from (one.name for one in own_first(command.schema) if one.metadata.get("help"))
    if "strategy" in own and "model" in own:
        yield from BESIDES
    if f"\n  {DETAILS} " in command.about:
        yield DETAILS
    if issubclass(command.schema, Launched):
        yield f"trainer.{KEY}"
        yield from (f"slurm.{one}" for one in _SLURM)
    elif "trainer" in typing.get_type_hints(command.schema):
        yield from (f"trainer.{one}" for one in TRAINER)
    specs = [word.partition("=")[2] for word in before if word.startswith("strategy=")]
    for name in {one for spec in specs for part in spec.split(",") for one in strategies(part)}:
        yield from (f"{name}.{field}" for field in fields_of(name))


def _values(schema: type, name: str, value: str) -> Iterator[str]:
    """What may stand behind `name=`, of which `value` is there already."""
    if name in _SPECS:
        head = value[: 1 + max(value.rfind("+"), value.rfind(","))]
        taken = strategies(head.rpartition(",")[2])
        yield from (f"{head}{one}" for one in _strategies() if one not in taken)
    elif name in _MODELS:
        head = value[: 1 + value.rfind(",")]
        yield from (f"{head}{one}" for one in checkpoints.names())
        yield from _paths(value)
    elif name == "task":
        yield from (*TASKS.names(), "files:", "lmms:")
        kind, colon, path = value.partition(":")
        if colon and kind == "files":
            yield from (f"files:{one}" for one in _paths(path))
    elif name in _SWITCHES or typing.get_type_hints(schema).get(name) is bool:
        yield from ("true", "false")
    elif name in _VALUES:
        yield from _VALUES[name]
    elif name in _FILES:
        yield from _paths(value)


def _strategies() -> list[str]:
    return [*STRATEGIES.names(), *STRATEGIES.also]


def fields_of(name: str) -> list[str]:
    """Options of a built-in strategy, in the order of its file, which is not imported."""
    if (module := STRATEGIES.builtin.get(name)) is None:
        return []
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(_is(word, name) for word in node.keywords):
            own = [one for one in node.body if isinstance(one, ast.AnnAssign)]
            fields = [one.target for one in own if "ClassVar" not in ast.unparse(one.annotation)]
            return [target.id for target in fields if isinstance(target, ast.Name)]
    return []


def _is(word: ast.keyword, name: str) -> bool:
    return word.arg == "name" and isinstance(word.value, ast.Constant) and word.value.value == name


def _paths(start: str) -> Iterator[str]:
    """Files and folders that begin so; a folder ends with a slash."""
    head = start[: 1 + start.rfind("/")]
    try:
        inside = sorted(Path(head or ".").expanduser().iterdir())
    except OSError:
        return
    hidden = start.removeprefix(head).startswith(".")
    for path in inside:
        if hidden or not path.name.startswith("."):
            yield f"{head}{path.name}{'/' * path.is_dir()}"
