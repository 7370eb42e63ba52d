"""Where the models that travel inside the package lie. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Names of the embedded models."""
    return sorted(folder.parent.name for folder in _HERE.glob("*/config.json"))


def note(*used: str | None) -> str | None:
    """What figures made with embedded models are worth, where any of the models `used` is one."""
    mine = [name for name in dict.fromkeys(used) if name in names()]
    if not mine:
        return None
    what = (
        f"{mine[0]} is an embedded model"
        if len(mine) == 1
        else f"{' and '.join(mine)} are embedded models"
    )
    return (
        f"{what}: these figures show how a strategy behaves and that every part works; "
        "they are not the papers' results."
    )


def path(name: str) -> Path:
    """The folder of the embedded model `name`, as `from_pretrained` takes it."""
    if name not in names():
        raise ValueError(
            f"unknown embedded model {name!r}; embedded models: {', '.join(names()) or 'none'}."
        )
    return _HERE / name
