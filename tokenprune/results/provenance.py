"""Which code made a result: digests of the files that strategies, tasks and the loop consist of.

A file counts if what it says can change an answer: the modules that a class comes from, and what
those import of the same package, of the same folder, or of any other place where nothing is
installed. Other installed packages count by their versions. What is loaded in another way (data
files, modules named at run time) cannot be told.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from pathlib import Path
from typing import NamedTuple

import tokenprune
from tokenprune.lookup import GROUPS
from tokenprune.plugins import PLUGIN
from tokenprune.results.bytecode import compiled
from tokenprune.results.sources import Source, beside, file_of, follow, installed, top
from tokenprune.strategy import Pipeline

_OWN = "tokenprune"
# what every answer goes through; strategies and tasks say for themselves what they use
_ROOTS = (
    "tokenprune.evaluation.loop",
    "tokenprune.evaluation.single",
    "tokenprune.loading.checkpoint",
)
_FAMILIES = "tokenprune.adapters"  # found at run time
# every environment's list has them, or they only check shapes
_ELSEWHERE = {
    "torch",
    "transformers",
    "lightning",
    "torchmetrics",
    "av",
    "numpy",
    "jaxtyping",
    "beartype",
}


class Code(NamedTuple):
    """Source files, and the installed packages that they use besides."""

    sources: tuple[Source, ...]
    packages: frozenset[str]

    def __or__(self, other: Code) -> Code:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Code((*self.sources, *other.sources), self.packages | other.packages)

    def digests(self) -> dict[str, str]:
        """16 hexadecimal digits for each file, by names like `mine.py` and `tokenprune/ops.py`,
        sorted.
        """
        found = {source.name: digest(source.content) for source in self.sources}
        return dict(sorted(found.items()))

    def versions(self) -> dict[str, str]:
        """Of the installed packages, by the names that pip knows."""
        found = [_distribution(package) for package in sorted(self.packages)]
        return dict(pair for pair in found if pair is not None)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def code_of(*kinds: type) -> Code:
    """The code of classes: their own modules', their bases', and what these import.

    A class without a source file, of a notebook's cell for example, counts by its compiled code.
    """
    sources: list[Source] = []
    packages: set[str] = set()
    starts: list[tuple[str, Path]] = []
    for kind in kinds:
        for base in kind.__mro__:
            module = base.__module__
            file = file_of(sys.modules.get(module))
            if top(module) in sys.stdlib_module_names and module != "__main__":
                continue
            if file is None:
                code = "\n".join(compiled(base)).encode()
                sources.append(Source(module, Path(f"class {base.__qualname__}"), code))
            elif installed(file) and top(module) not in (top(kind.__module__), _OWN):
                packages.add(top(module))
            else:
                starts.append((module, file))
    followed, used = follow(starts, _OWN)
    packages |= used | {top(source.module) for source in followed if installed(source.file)}
    return Code((*sources, *followed), frozenset(packages - {_OWN} - _ELSEWHERE))


def code_of_pipeline(pipeline: Pipeline) -> Code:
    """The code of its strategies; of those that come with this package, too."""
    return code_of(*(type(strategy) for strategy in pipeline.strategies))


def code_of_package() -> Code:
    """Of this package, what every answer goes through.

    Neither commands and tables, which change no answer, nor strategies and tasks.
    """
    root = Path(tokenprune.__path__[0]).parent
    families = sorted((root / _FAMILIES.replace(".", "/")).glob("*.py"))
    starts = [(f"{_FAMILIES}.{file.stem}", file) for file in families if file.stem != "__init__"]
    for name in _ROOTS:
        file = beside(root, name)
        assert file is not None, f"{name} is gone: name the module that has its part now"
        starts.append((name, file))
    return Code(tuple(follow(starts, _OWN)[0]), frozenset())


def plugin_files(code: Code) -> dict[Path, bytes]:
    """The plug-in of `code`, and what lies in its folder, by paths relative to it; none without
    one.
    """
    found: dict[Path, bytes] = {}
    for plugin in code.sources:
        if not plugin.module.startswith(PLUGIN):
            continue
        for source in code.sources:
            if source.file.is_relative_to(plugin.file.parent):
                found[source.file.relative_to(plugin.file.parent)] = source.content
    return found


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the files that are not the same in both."""
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _distribution(package: str) -> tuple[str, str] | None:
    """The distribution that brings `package`, and its version."""
    points = [point for group in GROUPS for point in entry_points(group=group)]
    owners = [point.dist.name for point in points if point.dist and top(point.module) == package]
    for name in (*owners, *packages_distributions().get(package, ()), package):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None
