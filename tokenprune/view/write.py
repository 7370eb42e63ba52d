"""A run's page to its file."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenprune import checkpoints, sheets
from tokenprune.errors import ConfigError
from tokenprune.results.files import CONFIG, PAGE
from tokenprune.results.headline import headline
from tokenprune.results.notes import legend, remarks
from tokenprune.results.read import Run, Runs, read
from tokenprune.results.report import asked
from tokenprune.storage import replace
from tokenprune.tasks import Task
from tokenprune.templates import environment
from tokenprune.view import figures
from tokenprune.view.answers import MEANINGS, SIGNS, Sample, counted, samples
from tokenprune.view.contact import contacts, reasons
from tokenprune.view.frames import Frames

_TEMPLATES = Path(__file__).parent / "templates"
_BYTES = 4_600_000  # of a page, about
_OPEN = 3  # samples whose answer changed that are unfolded from the beginning


class Written(NamedTuple):
    """A page that is on disk."""

    file: Path
    samples: int
    sheets: int  # of so many samples
    without: list[tuple[str, int]]  # why, and of how many of them, there are no pictures


def write(
    folder: str | Path,
    out: str | Path | None = None,
    task: Task | None = None,
    seconds: float | None = None,
) -> Written:
    """`report.html` of a finished run, in its folder or as the file `out`.

    `task` is what the run was asked about, where somebody has it; after `seconds` no more frames
    are read. Raises ConfigError where there is no run, OSError.
    """
    run = read(folder)
    if isinstance(run, Runs):
        raise ConfigError(_cells(run))
    found = samples(run)
    shown = contacts(run, found, Frames(run, task, seconds), _BYTES - _told(found))
    without = list(reasons(shown.without))
    file = run.folder / PAGE if out is None else Path(out).expanduser()
    title = f"{run.summary.subject.label} on {run.summary.setting.model}"
    body = (
        environment(_TEMPLATES)
        .get_template("report.html.j2")
        .render(
            title=title,
            **_figures(run),
            samples=found,
            sheets=shown.sheets,
            states=counted(found),
            without=without,
            signs=SIGNS,
            meanings=MEANINGS,
            opened=_OPEN,
        )
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    rules, program = (_text(name) for name in ("report.css", "report.js"))
    replace(file, sheets.page(title, body, rules, program))
    return Written(file, len(found), len(shown.sheets), without)


def _figures(run: Run) -> dict[str, Any]:
    """All that the page has besides samples."""
    summary, setting = run.summary, run.summary.setting
    return {
        "folder": run.folder,
        "setting": setting,
        # cells of studies have none: the study says it for all of them
        "note": setting.note or checkpoints.note(setting.model, setting.assistant),
        "systems": summary.systems,
        "headline": list(headline(summary)),
        "remarks": list(remarks(summary)),
        "legend": list(legend(summary)),
        "timed": summary.timed,
        "properties": figures.properties(summary),
        "overall": figures.overall(summary),
        "tracks": figures.categories(summary),
        "times": figures.times(summary),
        "plots": list(figures.plots(run)),
        "wide": figures.WIDE,
        "tall": figures.TALL,
        "asked": list(asked(summary)),
        "given": _given(run.folder),
    }


def _given(folder: Path) -> dict[str, str]:
    """The parts of `config.yaml` that a reader may want to copy, as they stand there."""
    file = folder / CONFIG
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return {
        name: part.group()
        for name in ("run", "systems")
        if (part := re.search(rf"^{name}:\n(?:[ -].*\n)*", text, re.MULTILINE))
    }


def _told(found: Sequence[Sample]) -> int:
    """Bytes of the list of samples and of all else, about."""
    words = sum(len(one.question) + sum(len(said.text) for said in one.said) for one in found)
    return 50_000 + 1_100 * len(found) + 2 * words


def _cells(runs: Runs) -> str:
    names = [run.folder for run in runs.cells]
    if not names:
        return f"{runs.folder} has no finished cells: name the folder of a run"
    example = f"`tokenprune view {names[0]}`"
    return f"{runs.folder} holds {len(names)} runs: name one of them, as in {example}"


@functools.cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
