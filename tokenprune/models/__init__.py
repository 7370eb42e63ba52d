"""Where the models that travel inside the package lie. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Names of the embedded models."""
    return sorted(folder.parent.name for folder in _HERE.glob("*/config.json"))


def path(name: str) -> Path:
    """The folder of the embedded model `name`, as `from_pretrained` takes it."""
    if name not in names():
        raise ValueError(f"unknown embedded model {name!r}; embedded models: {', '.join(names()) or 'none'}.")
    return _HERE / name
