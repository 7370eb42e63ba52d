"""What `tokenprune run` prints at the end: what was found, five columns, what to beware of, and
where the rest is; in 80 columns.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.cli import clip
from tokenprune.cli.command import WIDTH
from tokenprune.evaluation.run import Finished
from tokenprune.results import table
from tokenprune.results.answer import RANDOM, STRATEGY, VANILLA
from tokenprune.results.column import Column, Row
from tokenprune.results.files import REPORT
from tokenprune.results.headline import headline
from tokenprune.results.notes import remarks
from tokenprune.results.statistics import Estimate
from tokenprune.results.summary import Summary
from tokenprune.results.wording import UNTOLD, distance, duration, score

_FIGURES = (
    Column("label", "", "the system's name", str),
    Column("score", "score", "mean over categories, in per cent"),
    Column("to_vanilla", "minus vanilla", "in points"),
    Column("kept", "visual\ntokens", "kept: measured, mean over LLM layers"),
    Column("answer", "time per\nanswer", "from the inputs to the last token"),
)
_REAL = "llava-hf/llava-onevision-qwen2-7b-ov-hf"


def results(finished: Finished, width: int = WIDTH) -> RenderableType:
    """What was found, the figures in question, what to beware of, and where to look next."""
    summary = finished.summary
    asked = summary.setting.video is not None
    found = [clip.headline(finished)] if asked else headline(summary)
    parts: list[RenderableType] = [
        *(_text(line, style="bold") for line in found),
        Text(),
        _text(_about(summary)),
    ]
    if asked:
        parts += [clip.answers(finished), clip.frames(finished)]
    else:
        parts.append(_figures(summary, width))
    parts.append(Text())
    parts.append(_text(" ".join([*_reading(summary), *_spent(summary)]), style="dim"))
    for line in filter(None, [*remarks(summary), summary.setting.note]):
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
    """A row for each system. Where that is too wide, intervals stand below what they belong to, and
    a long name gives way to the role.
    """
    for apart, named in ((" ", True), ("\n", True), ("\n", False)):
        rows = list(_rows(summary, apart, named))
        columns = [column for column in _FIGURES if any(row[column.name] for row in rows)]
        drawn = table.terminal(rows, columns)
        drawn.show_edge = drawn.pad_edge = False
        if table.fits(drawn, width):
            break
    return drawn


def _rows(summary: Summary, apart: str, named: bool) -> Iterator[Row]:
    for role, system in summary.systems.items():
        yield {
            "label": system.label if named else role,
            "score": None if system.score is None else score(system.score, apart),
            "to_vanilla": None if system.to_vanilla is None else distance(system.to_vanilla, apart),
            "kept": clip.kept(system),
            "answer": clip.time(system, summary.systems.get(VANILLA)),
        }


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
        yield f"Times: {of}, on this machine ({summary.environment['device']})."


def _spent(summary: Summary) -> Iterator[str]:
    """Where the time of the strategy goes: what it costs, and what it saves."""
    own, full = summary.subject.measured, summary.systems.get(VANILLA)
    stages, prefill = own.get("strategy_ms"), own.get("prefill_ms")
    if full is None or full is summary.subject or stages is None or prefill is None:
        return
    cost = duration(stages + (own.get("probe_ms") or 0))
    before = full.measured.get("prefill_ms")
    saved = "" if before is None else f" instead of {duration(before)}"
    yield (
        f"{summary.subject.label}: {cost} for its stages and its guide; then the LLM's prefill "
        f"takes {duration(prefill)}{saved}."
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
