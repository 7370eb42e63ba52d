"""Contact sheets: all frames of a sample in a strip for each system, small enough for a page.

Kept cells are bright and inside an outline, dropped ones dark; above each frame stands how many of
its cells are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenprune.pictures.drawing import EVIDENCE, INK, STAR, Drawing, numbered, shortened
from tokenprune.pictures.footage import Footage
from tokenprune.pictures.kept import Kept, outline

_ACROSS = 16  # frames in a row
_DARK = 0.28  # how much light a dropped cell has
_LIGHT, _QUIET = "#FFFFFF", "#767676"
_GAP = 0.07  # of a frame
_NUMBER = 0.34  # of a frame's width: the line above it
_NOTE, _SMALL, _LARGE = 7.5, 8.5, 10.0  # points
_LETTER = 0.097  # inches, of a bold large one


def contact(
    systems: Sequence[Kept],
    footage: Footage,
    title: str = "",
    foot: str = "",
    wide: float = 8.6,
) -> Drawing:
    """A strip of frames for each system, one below the other, `wide` inches across; `title` above
    and `foot` below them.

    Where the right answer is known, each answer has a mark that says whether it is that.
    """
    from matplotlib.figure import Figure

    across = min(_ACROSS, len(footage))
    rows = -(-len(footage) // across)
    ratio = footage.pictures[0].shape[0] / footage.pictures[0].shape[1]
    pitch = ratio + _NUMBER + _GAP
    unit = wide / across  # inches of a frame with its gap
    head, strip = 0.26, rows * pitch * unit
    top, low = 0.3 * bool(title), 0.17 * bool(foot)
    tall = top + len(systems) * (head + strip) + low
    figure = Figure(figsize=(wide, tall))
    indent = 0.03 + max(len(one.label) for one in systems) * _LETTER / wide
    text: dict[str, Any] = {"va": "top", "color": INK}
    figure.text(0.004, 1 - 0.06 / tall, _plain(title, 130), fontsize=_LARGE, **text)
    figure.text(0.004, 0.14 / tall, _plain(foot, 160), fontsize=_NOTE, **text)
    for place, one in enumerate(systems):
        bottom = tall - top - (place + 1) * (head + strip)
        axis = figure.add_axes((0.0, bottom / tall, 1.0, strip / tall))
        axis.set_xlim(0, across)
        axis.set_ylim(rows * pitch, 0)
        axis.axis("off")
        for frame in range(len(footage)):
            corner = (float(frame % across), frame // across * pitch + _NUMBER)
            _frame(axis, footage, one, frame, corner, ratio)
        height = (bottom + strip + 0.06) / tall
        figure.text(0.004, height, one.label, fontsize=_LARGE, weight="bold", color=INK)
        told = _plain(_told(one, footage.answer), 110)
        figure.text(indent, height, told, fontsize=_LARGE, color=INK)
    return Drawing(figure, _words(systems, footage))


def _plain(text: str, most: int) -> str:
    """One line, and no formulas in it."""
    return shortened(text, most).replace("$", r"\$")


def _told(one: Kept, right: str) -> str:
    """What stands behind a system's name."""
    kept = sum(one.budgets)
    parts = [f"{kept} of {one.full} {one.unit} ({_share(kept / one.full)})"]
    if one.average is not None and abs(one.average - kept / one.full) > 0.0005:
        parts = [f"{_share(one.average)} of the {one.unit}, mean over layers"]
    if one.answer:
        mark = "" if not right else " ✓" if one.answer.strip() == right.strip() else " ✗"
        parts.append(f"answers “{shortened(one.answer, 40)}”{mark}")
    return ", ".join(parts)


def _share(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _frame(
    axis: Any, footage: Footage, one: Kept, frame: int, corner: tuple[float, float], ratio: float
) -> None:
    """One frame with its upper left corner there, its number above."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    (x, y), (height, width) = corner, one.grids[frame]
    across, down = 1 - _GAP, ratio * (1 - _GAP)
    kept = np.zeros((height, width), dtype=bool)
    kept.reshape(-1)[list(one.slots[frame])] = True
    picture = darkened(footage.pictures[frame].numpy(), kept)
    axis.imshow(picture, extent=(x, x + across, y + down, y), aspect="auto")
    lines = [
        [(x + across * a / width, y + down * b / height) for a, b in edge] for edge in outline(kept)
    ]
    axis.add_collection(LineCollection(lines, colors=_LIGHT, linewidths=0.6))
    evident = frame in footage.evidence
    if evident:
        edge = {"edgecolor": EVIDENCE, "linewidth": 1.8}
        axis.add_patch(Rectangle((x, y), across, down, fill=False, **edge))
    number = len(one.slots[frame])
    text = f"{STAR if evident else ''}{number}/{height * width}"
    colour = EVIDENCE if evident else INK if number else _QUIET
    look = {"ha": "center", "va": "bottom", "fontsize": _SMALL, "color": colour}
    axis.text(x + across / 2, y - 0.04, text, **look)


def darkened(picture: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The picture with all but the `kept` cells dark: uint8 [h w 3]."""
    tall, wide, _ = picture.shape
    rows = np.arange(tall) * kept.shape[0] // tall
    columns = np.arange(wide) * kept.shape[1] // wide
    shown = kept[rows][:, columns][..., None]
    dark = (_DARK * picture.astype(np.float32)).round().astype(np.uint8)
    return np.where(shown, picture, dark)


def _words(systems: Sequence[Kept], footage: Footage) -> str:
    told = [f"Contact sheets of {len(footage)} frames, kept cells bright and dropped ones dark."]
    for one in systems:
        budgets = ", ".join(map(str, one.budgets))
        answer = f' It answered "{one.answer}".' if one.answer else ""
        kept = f"{sum(one.budgets)} of {one.full} {one.unit}, by frame {budgets}"
        told.append(f"{one.label}: {kept}.{answer}")
    if footage.evidence:
        told.append(f"What is asked about: {numbered(footage.evidence)}.")
    return " ".join(told)
