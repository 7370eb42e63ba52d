"""Fields that are read once somebody looks: a device may hold them still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_OWED = "_owed"


class Owing:
    """Base of what owes some of its fields."""

    def owe(self, name: str, read: Callable[[], Any]) -> None:
        """`read` gives what the field `name` holds, once somebody looks."""
        vars(self).pop(name, None)
        vars(self).setdefault(_OWED, {})[name] = read

    def owed(self, name: str) -> Callable[[], Any] | None:
        """What gives a field that nobody has looked at."""
        return vars(self).get(_OWED, {}).get(name)

    def __getattr__(self, name: str) -> Any:
        # only what is not there comes here
        read = vars(self).get(_OWED, {}).pop(name, None)
        if read is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = read()
        setattr(self, name, value)
        return value

    def __getstate__(self) -> dict[str, Any]:
        """Everything read: copies and other processes owe nothing."""
        for name in [*vars(self).get(_OWED, ())]:
            getattr(self, name)
        return {name: value for name, value in vars(self).items() if name != _OWED}
