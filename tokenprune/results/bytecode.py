"""A class without a source file as text, which changes whenever what it does may."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

# of no consequence for what a class does, or different from one start to the next
_ASIDE = {
    "__dict__",
    "__weakref__",
    "__doc__",
    "__module__",
    "__firstlineno__",
    "__static_attributes__",
    "_abc_impl",
}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), tuple, list, dict)


def compiled(kind: type) -> Iterator[str]:
    """The compiled code of a class and of everything of its own module that it names, and their
    constants.
    """
    yield from _of(kind, kind.__module__, set())


def _of(value: Any, module: str, seen: set[int]) -> Iterator[str]:
    if id(value) in seen:
        return
    if isinstance(value, (classmethod, staticmethod)):
        yield from _of(value.__func__, module, seen)
    elif isinstance(value, property):
        for part in (value.fget, value.fset):
            yield from _of(part, module, seen)
    elif isinstance(value, type) and value.__module__ == module:
        seen.add(id(value))
        yield f"class {value.__qualname__}"
        for name in sorted(set(vars(value)) - _ASIDE):
            yield name
            yield from _of(vars(value)[name], module, seen)
    elif isinstance(value, FunctionType) and value.__module__ == module:
        seen.add(id(value))
        yield repr((value.__defaults__, sorted((value.__kwdefaults__ or {}).items())))
        yield from _code(value.__code__)
        for name in sorted(_names(value.__code__)):
            if name in value.__globals__:
                yield name
                yield from _of(value.__globals__[name], module, seen)
    elif type(value) in _PLAIN and "object at 0x" not in (text := repr(value)):
        yield text


def _code(code: CodeType) -> Iterator[str]:
    yield repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _names(code: CodeType) -> set[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)
