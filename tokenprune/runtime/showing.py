"""What was kept of a sample, as a contact sheet in a notebook or in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenprune import sheets
from tokenprune.errors import TokenpruneError

if TYPE_CHECKING:
    from tokenprune.runtime.report import SampleReport

Pictures = Any  # uint8 [h w 3] each: a tensor or an array of them, or a list


@dataclass(frozen=True, repr=False)
class Shown:
    """HTML that a notebook draws, without a script, a file or a network."""

    html: str
    title: str = "tokenprune"

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Writes it as a page, which any browser opens; returns where."""
        file = Path(path)
        file.write_text(sheets.page(escape(self.title), self.html), encoding="utf-8")
        return file

    def __repr__(self) -> str:
        return 'a picture that notebooks draw: .save("sheet.html") writes it'


def sheet_of(
    report: SampleReport,
    frames: Pictures = (),
    seconds: Sequence[float | int] | None = None,
    label: str = "",
    answer: str = "",
) -> sheets.Sheet:
    """See `SampleReport.show`."""
    given = [np.asarray(one) for one in frames]
    for one in given:
        if one.ndim != 3 or one.shape[-1] != 3 or one.dtype != np.uint8:
            raise TokenpruneError(
                f"a frame is uint8 [height, width, 3], not {one.dtype} {[*one.shape]}"
            )
    places = [*_places(report.frames, len(given) or len(seconds or ()))]
    known = "+".join(dict.fromkeys(stage.strategy for stage in report.stages))
    return sheets.Sheet(
        label or known or "full model",
        [given[place] for place in places] if given else [],
        report.slots,
        [(one.height, one.width) for one in report.videos for _ in range(one.frames)],
        None if seconds is None else [seconds[place] for place in places],
        report.frame_weights,
        answer=answer,
        layers=report.layers,
        full=report.full,
        decode=report.decode,
        merged=report.merged,
    )


def shown(
    every: Sequence[sheets.Sheet],
    *,
    title: str = "tokenprune",
    above: str = "",
    same: bool = False,
) -> Shown:
    """Sheets one below another; `above` them is HTML as it stands.

    `same`: they show the same frames, of which one picture is enough.
    """
    shared = sheets.strip(every[0].frames) if same else None
    around = "" if shared is None else f' style="{shared.style}"'
    inside = "\n".join(sheets.fragment(sheet, shared) for sheet in every)
    return Shown(f"<div{around}><style>{sheets.css()}</style>\n{above}{inside}</div>", title)


def _places(frames: int, given: int) -> Iterator[int]:
    """Which of the pictures that were `given` stands for each frame of the language model.

    The first of a pair, where it gets pairs of pictures as one frame. Raises TokenpruneError.
    """
    if given not in (0, frames, 2 * frames, 2 * frames - 1):
        raise TokenpruneError(
            f"{given} frames for a video that the language model saw as {frames}: pass all frames "
            "that were shown, and no others"
        )
    for frame in range(frames if given else 0):
        yield frame * (1 if given == frames else 2)
