"""Attention to frames: a curve with its highest frames as bars (DyToK, figure 1), and layer by
layer (figures 5, 6 and 9).

Axes: `f` frames, `l` LLM layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from tokenprune.pictures.drawing import (
    COLOURS,
    EVIDENCE,
    INK,
    STAR,
    Drawing,
    canvas,
    frame_ticks,
    numbered,
    plain,
)
from tokenprune.pictures.footage import Footage

_BLUE = COLOURS[0]


def over_frames(weights: Float[Tensor, "f"], footage: Footage, title: str, top: int = 8) -> Drawing:
    """How much each frame is attended to, and the `top` frames in time order over their pictures.

    `weights` sum to 1.
    """
    percent = [100 * weight for weight in weights.tolist()]
    ranked = sorted(range(len(percent)), key=lambda frame: (-percent[frame], frame))
    best = sorted(ranked[:top])
    figure = canvas(max(6.4, 1.05 * len(best)), 5.4)
    curve, bars, strip = figure.subplots(3, 1, height_ratios=[1.5, 1.5, 1.0])
    _curve(curve, percent, footage.evidence)
    curve.set_title(title, fontsize=9)
    _bars(bars, [percent[frame] for frame in best], [f in footage.evidence for f in best])
    bars.set_ylabel(f"top {len(best)}, %")
    bars.tick_params(labelbottom=False, length=0)
    for place, frame in enumerate(best):
        found = frame in footage.evidence
        _picture(strip, footage.pictures[frame], place, found)
        name = f"{STAR} {frame + 1}" if found else f"{frame + 1}"
        strip.text(place, 0.56, name, ha="center", fontsize=9, color=EVIDENCE if found else INK)
    for axis in (bars, strip):
        axis.set_xlim(-0.6, len(best) - 0.4)
    strip.set_ylim(-0.52, 0.8)
    strip.axis("off")
    return Drawing(figure, _words(percent, ranked, best, footage))


def _curve(axis: Any, percent: Sequence[float], evidence: Sequence[int]) -> None:
    axis.plot(range(len(percent)), percent, "-o", color=_BLUE, markersize=3.5)
    axis.axhline(100 / len(percent), color="0.5", linewidth=0.9, linestyle=":")
    for frame in evidence:
        axis.plot([frame], [percent[frame]], "*", color=EVIDENCE, markersize=13, zorder=3)
    axis.set_xlabel(f"frame ({STAR} holds what is asked about; dotted: all alike)")
    axis.set_ylabel("attention, %")
    axis.set_ylim(0, 1.18 * max(percent))
    frame_ticks(axis, len(percent))
    plain(axis)


def _bars(axis: Any, heights: Sequence[float], found: Sequence[bool]) -> None:
    for place, (height, evident) in enumerate(zip(heights, found, strict=True)):
        hatch, colour = ("//", EVIDENCE) if evident else ("", _BLUE)
        axis.bar(place, height, color=colour, hatch=hatch, edgecolor="white", width=0.8)
        axis.text(place, height, f"{height:.1f}", ha="center", va="bottom", fontsize=8)
    axis.set_ylim(0, 1.15 * max(heights))
    axis.set_xticks([])
    plain(axis)


def _picture(axis: Any, picture: Tensor, place: int, evident: bool) -> None:
    from matplotlib.patches import Rectangle

    axis.imshow(picture.numpy(), extent=(place - 0.44, place + 0.44, -0.5, 0.5), aspect="auto")
    if evident:
        corner = (place - 0.44, -0.5)
        axis.add_patch(Rectangle(corner, 0.88, 1.0, fill=False, edgecolor=EVIDENCE, linewidth=2.2))


def _words(
    percent: Sequence[float], ranked: Sequence[int], best: Sequence[int], footage: Footage
) -> str:
    shares = ", ".join(f"frame {frame + 1}: {percent[frame]:.1f} %" for frame in best)
    text = (
        f"Attention of the last prompt token to {len(percent)} frames. The {len(best)} highest in "
        f"time order: {shares}."
    )
    if footage.evidence:
        places = sorted(ranked.index(frame) + 1 for frame in footage.evidence)
        where = ", ".join(map(str, places))
        text += f" The evidence, {numbered(footage.evidence)}, has rank {where} of {len(percent)}."
    return text


class Seen(NamedTuple):
    """One heat map: attention in each layer to each frame."""

    label: str
    mass: Float[Tensor, "l f"]  # of a row, what falls on a frame
    evidence: Sequence[int] = ()


def by_layer(maps: Sequence[Seen], title: str) -> Drawing:
    """Heat maps, layers over frames, on one scale, each with its mean over layers above and its
    mean over frames beside.
    """
    deep, frames = maps[0].mass.shape
    figure = canvas((1.6 + 0.16 * max(frames, 16)) * len(maps) + 1.0, 4.6)
    places: Any = figure.add_gridspec(
        2, 2 * len(maps), width_ratios=[4, 1] * len(maps), height_ratios=[1, 3]
    )
    most = 100 * max(float(one.mass.max()) for one in maps)
    heats: list[Any] = []
    for number, one in enumerate(maps):
        axis = figure.add_subplot(places[1, 2 * number])
        heats.append(_map(axis, one, most))
        _margins(figure, places, number, one)
    figure.suptitle(title, fontsize=9)
    mains = [heat.axes for heat in heats]
    bar = figure.colorbar(heats[0], ax=mains, location="bottom", shrink=0.7, aspect=50)
    bar.set_label("attention of the last prompt token that falls on the frame, %", fontsize=8)
    return Drawing(figure, " ".join(_words_of_map(one, deep) for one in maps))


def _map(axis: Any, one: Seen, most: float) -> Any:
    percent = (100 * one.mass).numpy()
    deep, frames = percent.shape
    heat = axis.imshow(percent, cmap="viridis", vmin=0, vmax=most, aspect="auto", origin="lower")
    axis.set_xlabel("frame")
    axis.set_ylabel("layer")
    frame_ticks(axis, frames)
    for frame in one.evidence:
        axis.text(frame, deep - 0.45, STAR, color=EVIDENCE, ha="center", va="bottom", fontsize=10)
    return heat


def _margins(figure: Any, places: Any, number: int, one: Seen) -> None:
    """Means over layers above a map, and over frames beside it."""
    percent = 100 * one.mass
    deep, frames = percent.shape
    above = figure.add_subplot(places[0, 2 * number])
    beside = figure.add_subplot(places[1, 2 * number + 1])
    above.plot(range(frames), percent.mean(0), "-o", color=_BLUE, markersize=3)
    beside.plot(percent.mean(1), range(deep), "-s", color=COLOURS[1], markersize=3)
    for frame in one.evidence:
        above.plot([frame], [float(percent[:, frame].mean())], "*", color=EVIDENCE, markersize=12)
    above.set_xlim(-0.5, frames - 0.5)
    above.set_ylim(bottom=0)
    above.tick_params(labelbottom=False)
    above.set_ylabel("mean over\nlayers, %", fontsize=8)
    above.set_title(one.label, fontsize=9)
    beside.set_ylim(-0.5, deep - 0.5)
    beside.set_xlim(left=0)
    beside.tick_params(labelleft=False)
    beside.set_xlabel("mean over\nframes, %", fontsize=8)
    for axis in (above, beside):
        plain(axis, "both")


def _words_of_map(one: Seen, deep: int) -> str:
    frames, layers = 100 * one.mass.mean(0), 100 * one.mass.mean(1)
    frame, layer = int(frames.argmax()), int(layers.argmax())
    text = (
        f"{one.label}: attention of the last prompt token in {deep} layers to {len(frames)} "
        f"frames. Frame {frame + 1} gets most over all layers ({float(frames[frame]):.1f} %, the "
        f"mean is {float(frames.mean()):.1f} %), layer {layer} looks at frames most "
        f"({float(layers[layer]) * len(frames):.0f} % of its attention); the first frame gets "
        f"{float(frames[0]):.1f} % and the last {float(frames[-1]):.1f} %."
    )
    return text + (f" Evidence: {numbered(one.evidence)}." if one.evidence else "")
