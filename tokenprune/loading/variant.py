"""What commands may choose about a model besides its name.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokenprune.errors import ConfigError
from tokenprune.options import key

POOLS = ("bilinear", "average", "max")
NEWLINES = ("grid", "frame", "one_token")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a model is read; None is the checkpoint's own everywhere."""

    template: ClassVar[str | None] = None  # of prompts, where a command makes any
    pool: str | None = key(
        None, "pooling of LLaVA-Video's frames: bilinear, average or max; the checkpoint's own"
    )
    newline: str | None = key(
        None,
        "LLaVA-Video's newline tokens: grid (one per row of a frame), frame or one_token (one in "
        "all); the checkpoint's own",
    )

    def __post_init__(self) -> None:
        for name, allowed in (("pool", POOLS), ("newline", NEWLINES)):
            chosen = getattr(self, name)
            if chosen is not None and chosen not in allowed:
                raise ConfigError(f"{name}={chosen} is unknown: write {', '.join(allowed)}")


@dataclass(frozen=True, kw_only=True)
class Prompted(Variant):
    """The same, of commands that ask questions."""

    template: str | None = key(  # pyright: ignore[reportIncompatibleVariableOverride]
        None,
        "chat template: qwen_1_5 (the llava package's), hf, or a .jinja file; the checkpoint's own",
    )


STOCK = Variant()
