"""What there is of one kind, by name: strategies, model families, tasks, checkpoints.

Built-in ones are files of this package: their names are read in their text, and a file is imported
when somebody asks for what it holds. Installed ones come through entry points, a user's by being
defined, in a program of the user's own or in a file that `plugin=` names.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from tokenprune.errors import (
    NameTakenError,
    StrategyError,
    TaskError,
    TokenpruneError,
    UnsupportedModelError,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Registry(Mapping[str, T]):
    """Everything of one `kind`. As a mapping it imports what is asked of it.

    `package` holds the built-in ones: a class there declares its name by `keyword`, as in
    `class Mine(Base, name="mine")`. Installed packages use the entry points of `group`, whose
    import defines the class; where an entry point names the thing itself, `read` makes one of it.
    A package that does not import is told of once, in a line on stderr (by Python's logging, where
    nobody has set it up), and is an error for whoever asks for what it has; all else works.
    `also` is what messages list besides the names.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        error: type[TokenpruneError],
        *,
        package: str = "",
        keyword: str = "name",
        read: Callable[[Any], T] | None = None,
        also: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.group, self.error, self.also = kind, group, error, also
        self.defined: dict[str, T] = {}  # what has been imported so far
        self._package, self._keyword, self._read = package, keyword, read
        self._broken: dict[str, str] | None = None  # by name, why an installed one cannot be used

    @cached_property
    def builtin(self) -> dict[str, str]:
        """The modules of the built-in ones by name; nothing is imported for it."""
        spec = importlib.util.find_spec(self._package) if self._package else None
        if spec is None or not spec.submodule_search_locations:
            return {}
        declared = re.compile(rf'^class \w+\([^)]*\b{self._keyword}="([^"]+)"', re.MULTILINE)
        found: dict[str, str] = {}
        for file in sorted(Path(spec.submodule_search_locations[0]).glob("*.py")):
            for name in declared.findall(file.read_text(encoding="utf-8")):
                found[name] = f"{self._package}.{file.stem}"
        return found

    def add(self, name: str, thing: Any) -> None:
        """Registers a class. The same definition run again (a notebook cell, a reloaded module)
        replaces itself. Raises NameTakenError.
        """
        if (
            name not in self.defined
            and self.builtin.get(name, thing.__module__) != thing.__module__
        ):
            self._import(name)
        known: Any = self.defined.get(name)
        if known is not None and _home(known) != _home(thing):
            raise NameTakenError(self.kind, name, _home(known))
        self.defined[name] = thing

    def names(self) -> list[str]:
        """All names, sorted. Imports installed packages, and no built-in one."""
        self.broken()
        return sorted({*self.builtin, *self.defined})

    def find(self, name: str) -> T:
        """What is called `name`; an error lists the known ones and the nearest."""
        if name not in self.defined and name in self.builtin:
            self._import(name)
        if name in self.defined:
            return self.defined[name]
        self.refuse_broken(name)
        if name in self.defined:
            return self.defined[name]
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        every = ", ".join([*self.names(), *self.also])
        raise self.error(f"unknown {self.kind} {name!r}: {hint}Known: {every}")

    def refuse_broken(self, name: str) -> None:
        """Raises where an installed package would have `name`, and cannot be used."""
        if name not in self.defined and name in self.broken():
            raise self.error(self.broken()[name])

    def defined_by(self, module: ModuleType) -> list[str]:
        """Names of third parties' classes that a module defines, imports, or imports the module or
        package of.
        """
        values = list(vars(module).values())
        modules = [value.__name__ for value in values if isinstance(value, ModuleType)]
        found = []
        for name, thing in self.defined.items():
            where = f"{getattr(thing, '__module__', '')}."
            inside = any(where.startswith(f"{home}.") for home in (module.__name__, *modules))
            mine = inside or any(value is thing for value in values)
            if mine and not where.startswith("tokenprune."):
                found.append(name)
        return found

    def broken(self) -> dict[str, str]:
        """Imports the installed ones; by name, why one of them cannot be used."""
        if self._broken is None:
            self._broken = {}
            first = {*self.builtin, *self.defined}  # also what the user's own program has defined
            for point in entry_points(group=self.group):
                self._broken |= self._install(point, first)
        return self._broken

    def _install(self, point: Any, first: set[str]) -> dict[str, str]:
        """By name, why what an entry point promises cannot be used."""
        package = (
            f"the module {point.value!r}" if not point.dist else _distribution(point.dist.name)
        )
        before = dict(self.defined)
        try:
            loaded = point.load()
            if self._read is not None:
                self._keep(point.name, self._read(loaded))
        except (Exception, SystemExit) as error:
            self.defined.clear()  # nothing of what was half imported
            self.defined.update(before)
            reason = " ".join(str(error).split()) or type(error).__name__
            said = (
                f"the {self.kind} {point.name!r} of {package} does not import ({reason}): update "
                "or uninstall that package"
            )
            _log.warning("tokenprune: %s", said)
            if isinstance(error, NameTakenError) and error.taken not in first:
                # of two packages with one name nobody can say which is meant
                self.defined.pop(error.taken, None)
                return {point.name: said, error.taken: said}
            return {point.name: said}
        if point.name in self.defined:
            return {}
        new = sorted(set(self.defined) - set(before))
        instead = f"write {' or '.join(new)}" if new else "update or uninstall that package"
        said = (
            f"the entry point {point.name!r} of {package} defines no {self.kind} of that name: "
            f"{instead}"
        )
        if not new:
            _log.warning("tokenprune: %s", said)
        return {point.name: said}

    def _keep(self, name: str, thing: T) -> None:
        if name in self.defined:
            raise NameTakenError(self.kind, name, str(self.defined[name]))
        self.defined[name] = thing

    def _import(self, name: str) -> None:
        """The built-in one, also where its module has been imported and its class taken away."""
        module = importlib.import_module(self.builtin[name])
        if name not in self.defined:
            mine = (kind for kind in vars(module).values() if isinstance(kind, type))
            declared: Any = next(k for k in mine if vars(k).get(self._keyword) == name)
            self.defined[name] = declared

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        return self.find(name)

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())


def _home(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _distribution(name: str) -> str:
    return f"the installed package {name!r}"


STRATEGIES: Registry[Any] = Registry(
    "strategy",
    "tokenprune.strategies",
    StrategyError,
    package="tokenprune.strategies",
    also=("none",),
)
FAMILIES: Registry[Any] = Registry(
    "model family",
    "tokenprune.families",
    UnsupportedModelError,
    package="tokenprune.adapters",
    keyword="model_type",
)
TASKS: Registry[Any] = Registry(
    "task",
    "tokenprune.tasks",
    TaskError,
    package="tokenprune.tasks",
    also=("files:PATH of an annotations file", "lmms:NAME of lmms-eval"),
)
PLUGGABLE = (STRATEGIES, TASKS, FAMILIES)  # what a user's file may bring
GROUPS = tuple(kind.group for kind in PLUGGABLE)
