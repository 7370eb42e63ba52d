"""A question about one video in the terminal: what was answered, and which frames were kept."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.evaluation.run import Finished
from tokenprune.results.answer import RANDOM, Answer, subject_of
from tokenprune.results.wording import percent

_BAR = 40  # characters of a whole frame


def answers(finished: Finished) -> Table:
    """The full and the compressed model side by side."""
    title = f"Q: {finished.summary.setting.question}"
    grid = Table(box=SIMPLE_HEAD, title=Text(title), title_justify="left")
    told = []
    for system in finished.systems:
        if system.name == RANDOM and len(finished.systems) > 2:
            continue
        figures = finished.summary.systems[system.name].measured
        kept = percent(figures["layer_average_ratio"]) or "-"
        grid.add_column(Text(f"{system.label} ({kept} % of visual tokens)"), overflow="fold")
        told.append(Text(system.answers[0].error or system.answers[0].prediction))
    grid.add_row(*told)
    return grid


def frames(finished: Finished) -> RenderableType:
    """A bar per frame: the tokens that reached the last layer."""
    tokens = _subject(finished)[0].tokens
    if not tokens:  # it could not be evaluated
        return Text()
    frames = tokens["kept_per_frame"]
    cells = tokens["full"] // len(frames)
    lines = [f"tokens kept per frame, of {cells}"]
    for number, kept in enumerate(frames):
        filled = round(_BAR * kept / cells)
        lines.append(f"  frame {number + 1:>3}  {'█' * filled}{'░' * (_BAR - filled)} {kept:>4}")
    return Text("\n".join(lines))


def _subject(finished: Finished) -> Sequence[Answer]:
    """The answers of the system that the run is about."""
    by_name = {system.name: system.answers for system in finished.systems}
    return by_name[subject_of(by_name)]
