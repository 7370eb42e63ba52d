"""Attention from generated tokens to the frames of a video (DyCoke, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from tokenprune.pictures.drawing import INK, Drawing, canvas, listed

_MOST_WORDS = 48  # of generated tokens that are written below the map


class Told(NamedTuple):
    """One answer, and where the model looked while it gave it.

    Args:
        label: of the system
        mass: of each generated token's attention, mean over layers, what falls on a frame
        words: the generated tokens
        changed: of each token, whether other visual rows were seen than by the one before
    """

    label: str
    mass: Float[Tensor, "n f"]
    words: Sequence[str]
    changed: Sequence[bool]


def over_tokens(answers: Sequence[Told], title: str) -> Drawing:
    """A heat map for each answer, frames over generated tokens, with the steps at which a selection
    changed marked by triangles and lines.
    """
    longest = max(len(one.mass) for one in answers)
    figure = canvas(min(14.0, 2.6 + 0.26 * max(longest, 16)), 0.6 + 2.9 * len(answers))
    axes = figure.subplots(len(answers), 1, squeeze=False)[:, 0]
    most = 100 * max(float(one.mass.max()) for one in answers)
    heat = None
    for axis, one in zip(axes, answers, strict=True):
        heat = axis.imshow(
            100 * one.mass.T.numpy(),
            cmap="viridis",
            vmin=0,
            vmax=most,
            aspect="auto",
            interpolation="nearest",
        )
        _dress(axis, one)
    axes[-1].set_xlabel("generated token")
    figure.suptitle(title, fontsize=9)
    bar = figure.colorbar(heat, ax=[*axes], shrink=0.8)
    bar.set_label("attention that falls on the frame, %", fontsize=8)
    return Drawing(figure, " ".join(_words(one) for one in answers))


def _dress(axis: Any, one: Told) -> None:
    frames = one.mass.shape[1]
    step = max(1, -(-frames // 16))
    axis.set_yticks(
        range(0, frames, step), [str(f + 1) for f in range(0, frames, step)], fontsize=7
    )
    axis.set_ylabel("frame")
    axis.set_title(one.label, fontsize=9, pad=14)
    if len(one.words) <= _MOST_WORDS:
        names = [shown(word) for word in one.words]
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.autoscale(False)
    for place, changed in enumerate(one.changed):
        if changed:
            axis.axvline(place - 0.5, color="w", linewidth=1.2, linestyle=":")
            axis.plot([place - 0.5], [-0.75], "v", color=INK, markersize=5, clip_on=False)


def shown(word: str) -> str:
    """A token as it can be written below an axis."""
    text = word.replace("\n", "⏎").replace(" ", "·")
    return (text if text.isprintable() else ascii(text)[1:-1]).replace("$", r"\$") or "·"


def _words(one: Told) -> str:
    mass, changes = 100 * one.mass, [n + 1 for n, changed in enumerate(one.changed) if changed]
    half = max(1, len(mass) // 2)
    early, late = mass[:half].mean(0), mass[-half:].mean(0)
    gains = late - early
    up, down = int(gains.argmax()), int(gains.argmin())
    text = (
        f"{one.label}: attention of {len(mass)} generated tokens to {mass.shape[1]} frames, mean "
        f"over layers. From the first to the second half of the answer frame {up + 1} goes from "
        f"{float(early[up]):.1f} to {float(late[up]):.1f} % and frame {down + 1} from "
        f"{float(early[down]):.1f} to {float(late[down]):.1f} %."
    )
    if changes:
        tokens = listed([str(n) for n in changes[:12]]) + (
            " and later" if len(changes) > 12 else ""
        )
        text += f" The selection changes before token {tokens}."
    return text
