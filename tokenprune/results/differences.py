"""What differs between two records of how something was made, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenprune.results.summary import Summary

# of an environment: what an answer may depend on
_MACHINE = ("versions", "packages", "platform", "device_name", "dtype", "threads")


def unequal(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each innermost value that is not the same in both, with its full name: `versions.torch`."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in [*now, *(name for name in then if name not in now)]:
            yield from unequal(then.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif then != now:
        yield key, then, now


def environments(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What differs between two environments of `record.environment`: `torch`, `device_name`, ..."""
    for key in _MACHINE:
        for name, before, after in unequal(then.get(key) or {}, now.get(key) or {}, key):
            yield name.rpartition(".")[2], before, after


def apart(first: Summary, second: Summary) -> Iterator[str]:
    """What two runs do not share besides their words: code that both went through, environments."""
    both = [name for name in first.code if name in second.code]
    names = [name for name in both if first.code[name] != second.code[name]]
    if names:
        yield f"the code differs: {', '.join(names)}"
    for name, before, after in environments(first.environment, second.environment):
        yield f"{name} differs: {before} and {after}; the difference is not the strategy's alone"


def moved(place: Mapping[str, Any], sittings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was not as it is in `place` in one of the sittings before, as `torch 2.11.0, now
    2.12.1`.
    """
    found = (environments(sitting["environment"], place) for sitting in sittings)
    return list(
        dict.fromkeys(f"{name} {then}, now {now}" for each in found for name, then, now in each)
    )
