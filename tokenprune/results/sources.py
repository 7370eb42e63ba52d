"""Source files and what they import of the same author's: followed in the text, nothing is imported
for it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from tokenprune.plugins import REMEMBERED


class Source(NamedTuple):
    """One file of somebody's code as it was run."""

    module: str
    file: Path
    content: bytes

    @property
    def name(self) -> str:
        """`package/module.py`, or `module.py`, wherever it lies."""
        alone = "." not in self.module and self.file.stem != "__init__"
        if alone or not self.file.is_absolute():  # a class without a file has a name only
            return self.file.name
        return self.file.relative_to(root_of(self.module, self.file)).as_posix()


def follow(starts: Iterable[tuple[str, Path]], author: str) -> tuple[list[Source], set[str]]:
    """The files of `starts` (modules and where they lie) and what they import, file by file.

    Followed is what belongs to the package of a start, to the package `author`, or to nothing that
    is installed. Of all else, the second result names the packages; Python's own are left out.
    """
    waiting = list(starts)
    tops = {top(name) for name, _ in waiting} | {author}
    found: dict[Path, Source] = {}
    packages: set[str] = set()
    while waiting:
        name, file = waiting.pop()
        if file in found:
            continue
        content = getattr(sys.modules.get(name), REMEMBERED, None) or file.read_bytes()
        found[file] = Source(name, file, content)
        if file.suffix != ".py":  # compiled by somebody else
            continue
        package = name if file.stem == "__init__" else name.rpartition(".")[0]
        for imported in _imports(content, package):
            there = _find(imported, root_of(name, file))
            if there is None:
                continue
            if not installed(there) or top(imported) in tops:
                waiting.append((imported, there))
            elif top(name) != author:
                packages.add(top(imported))
    return list(found.values()), packages - set(sys.stdlib_module_names)


def file_of(module: ModuleType | None) -> Path | None:
    """Where a module lies; None for what has no file, or none any more."""
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if file is not None and Path(file).is_file() else None


def beside(root: Path, name: str) -> Path | None:
    """The file of the module `name` in the folder `root`, if it is there."""
    path = root.absolute().joinpath(*name.split("."))
    candidates = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in candidates if file.is_file()), None)


def root_of(name: str, file: Path) -> Path:
    """The folder that holds a module's outermost package, or the module itself."""
    return file.parents[name.count(".") + (file.stem == "__init__")]


def top(name: str) -> str:
    """`package` of `package.module`."""
    return name.partition(".")[0]


def installed(file: Path) -> bool:
    """Whether a file is Python's own or an installed package's, not somebody's at work on it."""
    resolved = file.resolve()
    named = {"site-packages", "dist-packages"} & set(resolved.parts)
    return bool(named) or any(resolved.is_relative_to(place) for place in _places())


@cache
def _places() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple(Path(paths[kind]).resolve() for kind in kinds)


@lru_cache(maxsize=1024)  # a study asks for each of its strategies, and parsing takes the time
def _imports(content: bytes, package: str) -> tuple[str, ...]:
    """Full names of what may be a module among a file's imports, also inside functions, and of
    parents.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # Python has said it when it ran the file
            tree = ast.parse(content)
    except (SyntaxError, ValueError):  # of a file that nobody has imported so far
        return ()
    found: dict[str, None] = {}
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level and not package:
                continue
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for parts in (full.split(".") for full in names):
            found |= dict.fromkeys(".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return tuple(found)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from (other, *_nodes(other))
            continue
        yield child
        yield from _nodes(child)


def _find(name: str, root: Path) -> Path | None:
    """The file of a module as it is loaded, or as it would be; None for what is not a module with a
    file.
    """
    if (loaded := sys.modules.get(name)) is not None:
        return file_of(loaded)
    parent, _, leaf = name.rpartition(".")
    if parent in sys.modules:
        places = [(Path(place), leaf) for place in getattr(sys.modules[parent], "__path__", ())]
    else:
        places = [(Path(place), name) for place in dict.fromkeys((str(root), *sys.path))]
    return next((file for place in places if (file := beside(*place)) is not None), None)
