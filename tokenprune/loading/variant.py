"""What commands may choose about a model besides its name.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from tokenprune.errors import ConfigError
from tokenprune.options import key, read_value

POOLS = ("bilinear", "average", "max")
NEWLINES = ("grid", "frame", "one_token")
RULES = ("keep", "row")
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a model is read; None is the checkpoint's own everywhere."""

    # of prompts, where a command makes any
    template: ClassVar[str | None] = None
    time_instruction: ClassVar[bool] = False
    pool: str | None = key(
        None, "pooling of LLaVA-Video's frames: bilinear, average or max; the checkpoint's own"
    )
    newline: str | None = key(
        None,
        "LLaVA-Video's newline tokens: grid (one per row of a frame), frame or one_token (one in "
        "all); the checkpoint's own",
    )
    newline_rule: str | None = key(
        None,
        "LLaVA-Video's newlines in a compressed prompt: keep, or row: one goes with the last token "
        "before it, as in FastVID's and HoliTom's releases",
    )
    device_map: str | None = key(
        None,
        "one model over several devices, by accelerate: auto, balanced, sequential, or "
        "{MODULE: DEVICE}",
    )
    bits: int | None = key(
        None, "8 or 4: weights in as many bits, by bitsandbytes; those of dtype= by default"
    )

    def __post_init__(self) -> None:
        choices = (("pool", POOLS), ("newline", NEWLINES), ("newline_rule", RULES))
        for name, allowed in choices:
            chosen = getattr(self, name)
            if chosen is not None and chosen not in allowed:
                raise ConfigError(f"{name}={chosen} is unknown: write {', '.join(allowed)}")
        if self.bits not in (None, 8, 4):
            raise ConfigError(f"bits={self.bits} is not supported: write 8 or 4")
        if self.device_map is not None:
            _check_map(self.device_map)
            one = getattr(self, "device", "auto")  # of commands that have the key
            if one != "auto":
                raise ConfigError(
                    f"device={one} is one device and device_map= several: leave one of them out"
                )


@dataclass(frozen=True, kw_only=True)
class Prompted(Variant):
    """The same, of commands that ask questions."""

    template: str | None = key(  # pyright: ignore[reportIncompatibleVariableOverride]
        None,
        "chat template: qwen_1_5 (the llava package's), hf, or a .jinja file; the checkpoint's own",
    )
    time_instruction: bool = key(  # pyright: ignore[reportIncompatibleVariableOverride]
        False, "true: say before a question how long the video is and when its frames are"
    )


STOCK = Variant()
CHOICES = tuple(one.name for one in fields(Prompted))  # what is written down about a model


def _check_map(text: str) -> None:
    """ConfigError where accelerate would not understand it."""
    if not text.startswith("{"):
        if text not in MAPS:
            raise ConfigError(
                f"device_map={text} is unknown: write {', '.join(MAPS)}, or modules and their "
                "devices, as in device_map={model.vision_tower: 0, model.language_model: 1}"
            )
    elif not isinstance(read_value("device_map", text), dict):
        raise ConfigError(f"device_map={text} has no devices: write {{MODULE: DEVICE}}")
