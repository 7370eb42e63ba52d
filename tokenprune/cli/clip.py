"""A question about one video in the terminal: what was answered, and which frames were kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.evaluation.run import Finished
from tokenprune.results.answer import VANILLA, Answer, subject_of
from tokenprune.results.summary import SystemSummary
from tokenprune.results.wording import duration, percent

_BAR = 20  # characters of a whole frame
_FEW = 8  # frames that stand one below the other; more of them make two columns


def headline(finished: Finished) -> str:
    """What was kept, and whether that changed the answer."""
    subject = finished.summary.subject
    share = kept(subject)
    if share is None:
        return f"{subject.label} did not answer."
    told = f"{subject.label} keeps {share} of the visual tokens"
    said = {system.name: system.answers[0] for system in finished.systems}
    full, own = said.get(VANILLA), _subject(finished)[0]
    if full is None or full is own or full.error or own.error:
        return f"{told}."
    same = full.prediction == own.prediction
    how = "answers as the full model does" if same else "answers otherwise than the full model"
    return f"{told} and {how}."


def answers(finished: Finished) -> Table:
    """What each system says, beside what it kept and how long it took."""
    setting, systems = finished.summary.setting, finished.summary.systems
    title = Text(f"Q: {setting.question}", style="italic")
    grid = Table(box=SIMPLE_HEAD, title=title, title_justify="left", show_edge=False)
    grid.pad_edge = False
    grid.add_column("", no_wrap=True)
    grid.add_column("answer", overflow="fold", min_width=20)
    grid.add_column("visual\ntokens", justify="right", no_wrap=True)
    grid.add_column("time per\nanswer", justify="right", no_wrap=True)
    said = {system.name: system.answers[0] for system in finished.systems}
    for role, figures in systems.items():
        told = said[role].error or said[role].prediction
        took = time(figures, systems.get(VANILLA))
        cells = (figures.label, told, kept(figures) or "-", took or "-")
        grid.add_row(*map(Text, cells))
    return grid


def kept(system: SystemSummary) -> str | None:
    """`45.8 %` of the visual tokens, mean over LLM layers."""
    share = system.measured["layer_average_ratio"]
    return None if share is None else f"{percent(share)} %"


def time(system: SystemSummary, vanilla: SystemSummary | None) -> str | None:
    """`75 ms (+39 %)`: of an answer, beside the full model's."""
    ms = system.measured.get("answer_ms")
    full = None if vanilla is None or vanilla is system else vanilla.measured.get("answer_ms")
    return None if ms is None else duration(ms, full)


def frames(finished: Finished) -> RenderableType:
    """A bar per frame: the tokens that reached the last layer."""
    tokens = _subject(finished)[0].tokens
    if not tokens:  # it could not be evaluated
        return Text()
    counts = tokens["kept_per_frame"]
    whole = tokens["full"] // len(counts)
    bars = [_bar(number, count, whole) for number, count in enumerate(counts, 1)]
    high = len(bars) if len(bars) <= _FEW else -(-len(bars) // 2)
    return Text("\n".join(["", f"tokens kept per frame, of {whole}", *_beside(bars, high)]))


def _bar(number: int, count: int, whole: int) -> str:
    filled = round(_BAR * count / whole)
    return f"  frame {number:>3}  {'█' * filled}{'░' * (_BAR - filled)} {count:>4}"


def _beside(bars: Sequence[str], high: int) -> Iterator[str]:
    """The bars in columns of so many, read downwards."""
    for place in range(high):
        yield "  ".join(bars[place::high])


def _subject(finished: Finished) -> Sequence[Answer]:
    """The answers of the system that the run is about."""
    by_name = {system.name: system.answers for system in finished.systems}
    return by_name[subject_of(by_name)]
