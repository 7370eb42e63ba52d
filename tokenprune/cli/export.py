"""`tokenprune data export`: a task as video files and annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune.errors import ConfigError
from tokenprune.options import check_counts, key, read_options


@dataclass(frozen=True)
class ExportConfig:
    """Everything `tokenprune data export TASK` can be told."""

    task: str = key("", "")
    out: str = key("", "folder to write, which must not hold anything yet; needed")
    n: int = key(100, "how many samples")
    frames: int = key(16, "frames per video")
    size: int = key(96, "height and width in pixels, an even number from 96 on")
    seed: int = key(0, "of the samples")

    def __post_init__(self) -> None:
        if not self.task:
            raise ConfigError(
                "nothing to export: write a task first, as in `tokenprune data export tinyvqa "
                "out=shapes`"
            )
        if not self.out:
            raise ConfigError("nowhere to write to: add out=DIR, as in out=shapes")
        check_counts(self, "n", "frames", "size")
        if self.size % 2:
            raise ConfigError(
                f"size={self.size} is odd, which H.264 cannot store: write size={self.size + 1}"
            )


def parse_export(words: Sequence[str]) -> ExportConfig:
    """The export that `TASK KEY=VALUE ...` describes. Raises ConfigError."""
    return read_options(ExportConfig, words, bare="task")
