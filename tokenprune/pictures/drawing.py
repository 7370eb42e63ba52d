"""A figure with its words, and the looks that all of them share.

Colour is never the only carrier: evidence has a star and hatching beside its red, series have marks
and dashes, and what was dropped is fainter than what was kept and outside its outline.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.storage import replace

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which stay apart for colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")
MARKS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
INK, EVIDENCE = "#1a1a1a", "#C00000"
STAR = "★"
DPI = 150
_SMALLEST, _LARGEST = 30, 1200  # dots per inch


@dataclass(frozen=True)
class Drawing:
    """A matplotlib figure, and what it shows in words for those who cannot see it."""

    figure: Any
    alt: str

    def save(self, file: Path, dpi: int = DPI) -> Path:
        """Writes `file` whole or not at all, as its suffix says; without a date, so that the same
        numbers give the same bytes.

        Raises ConfigError for a kind of file that is not drawn, OSError.
        """
        import matplotlib

        check_file(str(file), dpi)
        empty = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        stream = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "tokenprune"}):
            self.figure.savefig(
                stream,
                format=file.suffix[1:],
                dpi=dpi,
                metadata=empty.get(file.suffix, {"Software": None}),
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        replace(file, stream.getvalue())
        return file


def check_file(file: str, dpi: int = DPI) -> None:
    """ConfigError for what cannot be drawn into, before anything is computed."""
    suffix = Path(file).suffix
    if suffix not in FORMATS:
        raise ConfigError(
            f"out={file} is no kind of figure: write a name that ends in .png, .svg or .pdf"
        )
    if not _SMALLEST <= dpi <= _LARGEST:
        raise ConfigError(
            f"dpi={dpi} is no resolution of a figure: write dpi=150, or 300 for print"
        )
    check_installed()


def check_installed() -> None:
    """ConfigError where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("figures need matplotlib: pip install 'tokenprune-video[sweep]'")


def canvas(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(axis: Any, grid: str | None = "y") -> None:
    """Without frame lines that carry nothing."""
    if grid is not None:
        axis.grid(axis=grid, alpha=0.3, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def frame_ticks(axis: Any, frames: int) -> None:
    """Numbers below frames that are drawn at 0, 1, ..., and not more than there is room for."""
    step = next((step for step in (1, 2, 4, 8, 16, 32) if frames / step <= 16), 64)
    shown = range(0, frames, step)
    axis.set_xticks([*shown], [str(number + 1) for number in shown])


def shortened(text: str, most: int = 60) -> str:
    """In one line of a title."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def numbered(frames: Sequence[int]) -> str:
    """Frames as people count them: `frame 3`, `frames 3 and 4`."""
    names = [str(frame + 1) for frame in frames]
    return f"frame{'s' if len(names) > 1 else ''} {listed(names)}"
