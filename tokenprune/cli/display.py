"""What `tokenprune run` prints at the end: what one needs, in 80 columns; the rest is in
`report.md`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.cli.clip import answers, frames
from tokenprune.evaluation.run import Finished
from tokenprune.results import table
from tokenprune.results.answer import RANDOM, STRATEGY, VANILLA
from tokenprune.results.column import Column, Row
from tokenprune.results.files import REPORT
from tokenprune.results.notes import against_random, remarks
from tokenprune.results.statistics import Estimate
from tokenprune.results.summary import Summary, SystemSummary
from tokenprune.results.wording import UNTOLD, distance, duration, percent, score

WIDTH = 80
_FIGURES = (
    Column("label", "", "the system's name", str),
    Column("score", "score", "mean over categories, in per cent", str),
    Column("to_vanilla", "minus vanilla", "in points", str),
    Column("to_random", "minus random", "in points", str),
    Column("kept", "visual tokens", "kept: measured, mean over LLM layers", str),
    Column("answer", "time per answer", "from the inputs to the last token", str),
    Column("prefill", "of it prefill", "of the LLM, where fewer tokens save time", str),
    Column("strategy", "of it strategy", "stages and guide: what a strategy adds", str),
)
_REAL = "llava-hf/llava-onevision-qwen2-7b-ov-hf"


def results(finished: Finished, width: int = WIDTH) -> RenderableType:
    """The figures in question, what they say, what to beware of, and where to look next."""
    summary = finished.summary
    parts: list[RenderableType] = [_text(_about(summary))]
    if summary.setting.video is not None:
        parts += [answers(finished), frames(finished)]
    parts += [_figures(summary, width), _text(" ".join(_reading(summary)), style="dim")]
    told = [against_random(summary), *remarks(summary), summary.setting.note]
    for line in filter(None, told):
        parts += [Text(), _text(line)]
    parts += [Text(), *(_whole(line) for line in _next(finished))]
    return Group(*parts)


def _text(line: str, style: str = "") -> Text:
    return Text(line, style=style, overflow="fold")


def _whole(line: str) -> Text:
    """A line to be copied: never broken, however long a path is."""
    return Text(line, no_wrap=True, overflow="ignore")


def _about(summary: Summary) -> str:
    setting, place = summary.setting, summary.environment
    asked = f"{summary.samples} samples of {setting.task}"
    full = summary.subject.measured["full"]
    tokens = "" if full is None else f", {full:.0f} visual tokens"
    return (
        f"{setting.model} ({place['dtype']} on {place['device']}), "
        f"{asked if setting.task else f'video {setting.video}'}, {setting.frames} frames{tokens}"
    )


def _figures(summary: Summary, width: int) -> Table:
    """A column for each system. Where that is too wide, intervals stand below what they belong to,
    and a long name gives way to the role.
    """
    for apart, named in ((" ", True), ("\n", True), ("\n", False)):
        rows = list(_rows(summary, apart, named))
        columns = [column for column in _FIGURES if any(row[column.name] for row in rows)]
        drawn = table.terminal(rows, columns, upright=True)
        if table.fits(drawn, width):
            break
    return drawn


def _rows(summary: Summary, apart: str, named: bool) -> Iterator[Row]:
    for role, system in summary.systems.items():
        yield {
            "label": system.label if named else role,
            "score": None if system.score is None else score(system.score, apart),
            "to_vanilla": None if system.to_vanilla is None else distance(system.to_vanilla, apart),
            "to_random": None if system.to_random is None else distance(system.to_random, apart),
            "kept": _kept(system),
            **_times(system, summary.systems.get(VANILLA), apart),
        }


def _kept(system: SystemSummary) -> str | None:
    kept = system.measured["layer_average_ratio"]
    return None if kept is None else f"{percent(kept)} %"


def _times(
    system: SystemSummary, vanilla: SystemSummary | None, apart: str
) -> dict[str, str | None]:
    """In milliseconds, with what is saved beside the full model; of what was timed."""
    found: dict[str, str | None] = {}
    between = ", " if apart == " " else apart
    for name in ("answer", "prefill"):
        ms = system.measured.get(f"{name}_ms")
        full = None if vanilla is None else vanilla.measured.get(f"{name}_ms")
        beside = None if system is vanilla else full
        found[name] = None if ms is None else duration(ms, beside, between)
    stages, guide = (system.measured.get(name) for name in ("strategy_ms", "probe_ms"))
    found["strategy"] = None if stages is None else duration(stages + (guide or 0))
    return found


def _reading(summary: Summary) -> Iterator[str]:
    """How to read the figures."""
    roles, subject = summary.systems, summary.subject
    if VANILLA in roles:
        yield "vanilla: the full model."
    if STRATEGY in roles and RANDOM in roles:
        yield f"random: as many visual tokens as {subject.label}, drawn by chance."
    scores = [one.score for one in roles.values() if one.score is not None]
    if scores:
        yield from _scored(scores, len(summary.categories))
    if subject.measured.get("answer_ms") is not None:
        timed = summary.timed
        of = f"medians of {timed} answers" if timed > 1 else "one answer each, warming up included"
        where = summary.environment["device"]
        yield (
            f"Times: {of}, on this machine ({where}), beside vanilla's; prefill: of the LLM; "
            "strategy: its stages and its guide."
        )


def _scored(scores: list[Estimate], categories: int) -> Iterator[str]:
    """Of scores and differences."""
    mean = f", mean of {categories} categories" if categories > 1 else ""
    if any(score.interval for score in scores):
        yield f"Scores in %{mean}, differences in points, with 95 % intervals."
    else:
        yield f"Scores in %{mean}, differences in points. No intervals: {UNTOLD}."


def _next(finished: Finished) -> Iterator[str]:
    """Where the rest is, and commands that go on from here."""
    setting = finished.summary.setting
    yield f"Results in {finished.folder}: {REPORT} has every figure"
    yield "Where to look next"
    if setting.note is not None:  # of an embedded model
        spec = shlex.quote(setting.spec)
        yield f"  a real model   tokenprune run strategy={spec} \\"
        yield f"                   model={_REAL}"
    if setting.video is None:
        yield "  many budgets   tokenprune sweep strategy=fastv,visionzip+dytok keep=0.5,0.25"
    yield "  two runs       tokenprune compare FOLDER FOLDER"
    yield "  what it means  docs/concepts.md, docs/evaluation.md, docs/tasks.md"
