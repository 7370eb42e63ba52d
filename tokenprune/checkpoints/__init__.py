"""Checkpoints by name: the models that travel inside this package, and those of installed packages.

An installed one is an entry point of the group `tokenprune.checkpoints` that names a folder, or a
function that returns one. Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenprune.errors import LoadingError
from tokenprune.lookup import Registry

_HERE = Path(__file__).parent


def _folder(named: Any) -> Path:
    """What an entry point names, as the folder that it stands for."""
    place = Path(named() if callable(named) else named)  # pyright: ignore[reportArgumentType]
    if not (place / "config.json").is_file():
        raise LoadingError(f"{place} holds no config.json")
    return place


CHECKPOINTS: Registry[Path] = Registry(
    "checkpoint", "tokenprune.checkpoints", LoadingError, read=_folder
)
CHECKPOINTS.defined |= {file.parent.name: file.parent for file in _HERE.glob("*/config.json")}
_EMBEDDED = tuple(sorted(CHECKPOINTS.defined))


def names() -> list[str]:
    """Names of the embedded models, and of installed packages' ones."""
    return CHECKPOINTS.names()


def path(name: str) -> Path:
    """The folder of the checkpoint `name`, as `from_pretrained` takes it. Raises LoadingError."""
    return CHECKPOINTS.find(name)


def embedded(folder: str | Path | None) -> str | None:
    """The name of the embedded model that lies in `folder`; None where none does."""
    there = None if not folder else Path(folder).resolve()
    return next((name for name in _EMBEDDED if (_HERE / name).resolve() == there), None)


def note(*used: str | None) -> str | None:
    """What figures made with embedded models are worth, where any of the models `used` is one."""
    mine = [name for name in dict.fromkeys(used) if name in _EMBEDDED]
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


def knows(*used: str | None) -> str | None:
    """What embedded models among those `used` can be asked about; for whoever shows them a film."""
    mine = [name for name in dict.fromkeys(used) if name in _EMBEDDED]
    if not mine:
        return None
    names, own = " and ".join(mine), "its" if len(mine) == 1 else "their"
    verb = "knows" if len(mine) == 1 else "know"
    return (
        f"{names} {verb} coloured shapes that move, and nothing else ({own} own clips: tokenprune "
        "data export tinyvqa out=shapes n=10). Of people, things and writing it sees nothing: the "
        "answer shows what a strategy does, not what is in the video. A model that sees them: "
        "model=llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
    )
