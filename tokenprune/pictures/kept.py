"""Which tokens were kept, drawn over the frames (DyToK, figures 10 to 17).

What was dropped is faint and outside the outline; the budget stands under each frame, weights of
frames below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenprune.pictures.drawing import (
    COLOURS,
    DASHES,
    EVIDENCE,
    INK,
    MARKS,
    STAR,
    Drawing,
    canvas,
    frame_ticks,
    numbered,
    plain,
    shortened,
)
from tokenprune.pictures.footage import Footage

_ACROSS = 8  # frames in a row
_FAINT = 0.22  # how much of a dropped cell's picture is left
_WIDE, _GAP = 1.0, 0.06  # of a frame


@dataclass(frozen=True)
class Kept:
    """What one system kept of a sample.

    Args:
        label: of the system
        slots: per frame the cells whose token reached the last layer
        grids: per frame height and width in cells
        answer: what it answered
        weights: of frames, of an allocator
        stands_for: per frame, of each of its `slots`, how many tokens were merged into it
        merged: whether a kept cell may stand for several tokens
        average: kept fraction, mean over LLM layers
        unit: what a cell is
    """

    label: str
    slots: Sequence[Sequence[int]]
    grids: Sequence[tuple[int, int]]
    answer: str = ""
    weights: Sequence[float | int] | None = None
    stands_for: Sequence[Sequence[int]] | None = None
    merged: bool = False
    average: float | None = None
    unit: str = "tokens"

    @property
    def budgets(self) -> list[int]:
        return [len(cells) for cells in self.slots]

    @property
    def full(self) -> int:
        return sum(height * width for height, width in self.grids)


def over_footage(systems: Sequence[Kept], footage: Footage, title: str = "") -> Drawing:
    """The frames once for each system, one below the other; weights of frames at the bottom."""
    frames = len(footage)
    across = min(_ACROSS, frames)
    rows = -(-frames // across)
    ratio = footage.pictures[0].shape[0] / footage.pictures[0].shape[1]
    tall = rows * (ratio + 0.24) + 0.1
    weighed = [one for one in systems if one.weights is not None]
    scale = 1.25 if across == _ACROSS else 10.0 / across
    heights = [tall * scale + 0.35] * len(systems) + [1.6] * bool(weighed)
    figure = canvas(across * scale + 0.8, sum(heights) + 0.6)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, one in zip(axes, systems, strict=False):
        for frame in range(frames):
            corner = (float(frame % across), -(frame // across) * (ratio + 0.24))
            _frame(axis, footage, one, frame, corner, ratio)
        axis.set_xlim(-_GAP, across)
        axis.set_ylim(-(rows - 1) * (ratio + 0.24) - 0.2, ratio + 0.04)
        axis.set_aspect("equal")
        axis.axis("off")
        axis.set_title(_head(one).replace("$", r"\$"), fontsize=9, loc="left", pad=2)
    if weighed:
        _weights(axes[-1], weighed, footage)
    figure.suptitle(title.replace("$", r"\$"), fontsize=9)
    return Drawing(figure, _words(systems, footage))


def _head(one: Kept) -> str:
    """The title of one system's frames."""
    answer = f': "{shortened(one.answer)}"' if one.answer else ""
    kept = sum(one.budgets)
    share = f"{100 * kept / one.full:.1f} %"
    if one.average is not None and abs(one.average - kept / one.full) > 0.0005:
        share += f" in the last layer, {100 * one.average:.1f} % mean over layers"
    return f"{one.label}{answer}   {kept} of {one.full} {one.unit} ({share})"


def _frame(
    axis: Any, footage: Footage, one: Kept, frame: int, corner: tuple[float, float], ratio: float
) -> None:
    """One frame with its lower left corner there, its budget below."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    (x, y), (height, width) = corner, one.grids[frame]
    wide, tall = _WIDE - _GAP, ratio * (_WIDE - _GAP)
    kept = np.zeros((height, width), dtype=bool)
    kept.reshape(-1)[list(one.slots[frame])] = True
    extent = (x, x + wide, y, y + tall)
    axis.imshow(faded(footage.pictures[frame].numpy(), kept), extent=extent)
    lines = [
        [(x + wide * a / width, y + tall * (1 - b / height)) for a, b in edge]
        for edge in outline(kept)
    ]
    axis.add_collection(LineCollection(lines, colors=INK, linewidths=0.7))
    if one.stands_for is not None:
        _dots(axis, one, frame, extent)
    evident = frame in footage.evidence
    if evident:
        edge = {"edgecolor": EVIDENCE, "linewidth": 2.0}
        axis.add_patch(Rectangle((x, y), wide, tall, fill=False, **edge))
    star = f"{STAR} " if evident else ""
    text = f"{star}{len(one.slots[frame])}"
    colour = EVIDENCE if evident else INK
    axis.text(x + wide / 2, y - 0.03, text, ha="center", va="top", fontsize=9, color=colour)


def _dots(axis: Any, one: Kept, frame: int, extent: tuple[float, float, float, float]) -> None:
    """On cells that stand for several tokens, the larger the more."""
    assert one.stands_for is not None
    (left, right, low, high), (height, width) = extent, one.grids[frame]
    for cell, number in zip(one.slots[frame], one.stands_for[frame], strict=True):
        if number < 2:
            continue
        row, column = divmod(cell, width)
        x = left + (right - left) * (column + 0.5) / width
        y = high - (high - low) * (row + 0.5) / height
        size = 1.5 + 1.1 * np.sqrt(number)
        look = {"markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 0.6}
        axis.plot([x], [y], "o", markersize=size, **look)


def faded(picture: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The picture with all but the `kept` cells faint: uint8 [h w 3]."""
    tall, wide, _ = picture.shape
    rows = np.arange(tall) * kept.shape[0] // tall
    columns = np.arange(wide) * kept.shape[1] // wide
    shown = kept[rows][:, columns][..., None]
    pale = 255 - _FAINT * (255 - picture.astype(np.float32))
    return np.where(shown, picture, pale.round().astype(np.uint8))


def outline(kept: np.ndarray) -> list[list[tuple[int, int]]]:
    """Edges between kept cells and all else, as pairs of corners (column, row)."""
    padded = np.pad(kept, 1)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]).tolist()
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]).tolist()
    return [
        *([(x, y), (x, y + 1)] for y, x in upright),
        *([(x, y), (x + 1, y)] for y, x in level),
    ]


def _weights(axis: Any, weighed: Sequence[Kept], footage: Footage) -> None:
    for place, one in enumerate(weighed):
        assert one.weights is not None
        percent = [100 * weight / sum(one.weights) for weight in one.weights]
        look = {"color": COLOURS[place], "linestyle": DASHES[place], "marker": MARKS[place]}
        axis.plot(range(len(percent)), percent, markersize=4, label=one.label, **look)
        for frame in footage.evidence:
            axis.plot([frame], [percent[frame]], "*", color=EVIDENCE, markersize=12)
    axis.set_xlim(-0.5, len(footage) - 0.5)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("weight, %")
    axis.set_xlabel(f"frame ({STAR} holds what is asked about)" if footage.evidence else "frame")
    frame_ticks(axis, len(footage))
    plain(axis)
    if len(weighed) > 1:
        axis.legend(frameon=False, fontsize=8)


def _words(systems: Sequence[Kept], footage: Footage) -> str:
    told = [f"Kept tokens over {len(footage)} frames."]
    for one in systems:
        budgets = ", ".join(map(str, one.budgets))
        answer = f' It answered "{one.answer}".' if one.answer else ""
        merged = " A kept cell may stand for several merged tokens." if one.merged else ""
        told.append(
            f"{one.label}: {sum(one.budgets)} of {one.full} tokens, by frame {budgets}."
            f"{merged}{answer}"
        )
    if footage.evidence:
        told.append(f"Evidence: {numbered(footage.evidence)}.")
    return " ".join(told)
