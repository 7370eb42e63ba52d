"""Systems side by side, as HTML: each one's answer, contact sheet, retention and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tokenprune import sheets
from tokenprune.demo.compare import Shown
from tokenprune.tasks import Sample
from tokenprune.templates import environment

TEMPLATES = Path(__file__).parent / "templates"


def css() -> str:
    """Rules of the fragments below: they change nothing else of a page."""
    return f"{sheets.css()}\n{(TEMPLATES / 'demo.css').read_text(encoding='utf-8')}"


def systems(found: Sequence[Shown], right: str, waiting: int = 0) -> str:
    """What each system made of a question whose answer is `right`, where that is known.

    `waiting`: how many are asked, as long as some have not answered. They share one picture of the
    frames.
    """
    pictures = next((list(one.sheet.frames) for one in found if one.sheet is not None), [])
    shared = sheets.strip(pictures) if pictures else None
    rows = [{**vars(one), **_drawn(one.sheet, shared)} for one in found]
    known = {"systems": rows, "right": right, "waiting": waiting, "thumbnails": shared}
    return environment(TEMPLATES).get_template("systems.html.j2").render(known)


def preview(sample: Sample) -> str:
    """The frames of a clip before anything is asked."""
    frames = [frame.numpy() for frame in sample.frames]
    number = len(frames)
    whole = sheets.Sheet("", frames, [[0]] * number, [(1, 1)] * number, sample.times)
    return f'<div class="tp-preview">{sheets.fragment(whole)}</div>'


def _drawn(sheet: sheets.Sheet | None, shared: sheets.Strip | None) -> dict[str, str]:
    """What the page says in larger letters is left out of the sheet."""
    if sheet is None:
        return {"answer": "", "fragment": ""}
    bare = replace(sheet, label="", answer="")
    return {"answer": sheet.answer, "fragment": sheets.fragment(bare, shared)}
