"""`report.md`: every figure of a run for people, a function of its summary and answers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenprune.results import table
from tokenprune.results.answer import Answer
from tokenprune.results.breakdown import by_category, own_figures
from tokenprune.results.column import Column, Row
from tokenprune.results.columns import named, shown
from tokenprune.results.notes import against_random, legend, remarks
from tokenprune.results.summary import Summary
from tokenprune.results.system import System

_COUNTS = ("label", "samples", "errors", "empty", "unparsed", "guessed", "unseen")
_PLACE = (Column("name", "what", "", str), Column("value", "is", "", str))


def report(summary: Summary, systems: Sequence[System]) -> str:
    """Markdown; the same run gives the same bytes."""
    return "\n\n".join(_parts(summary, systems)) + "\n"


def _parts(summary: Summary, systems: Sequence[System]) -> Iterator[str]:
    setting = summary.setting
    yield f"# {summary.subject.label} on {setting.model}"
    yield "\n\n".join(filter(None, (against_random(summary), setting.note)))
    yield from _listed("To beware of", remarks(summary))
    yield from _figures(summary)
    if len(summary.categories) > 1:
        yield "## By category"
        yield table.markdown(*by_category(summary, intervals=True))
    if summary.metrics:
        yield "## The benchmark's own figures"
        yield table.markdown(*own_figures(summary))
    if setting.video is not None:
        yield from _answers(summary, systems)
    yield "## What could be counted"
    yield _counts(summary)
    yield "## What was asked, and where"
    yield table.markdown(list(asked(summary)), _PLACE)


def _figures(summary: Summary) -> Iterator[str]:
    """The columns of results in three tables: what answers are worth, what is left of the video and
    its operations, and times.
    """
    rows = [system.as_dict() for system in summary.systems.values()]
    label, *columns = shown(rows)
    parts = sections(columns)
    yield from _listed("How to read it", legend(summary))
    for title, own in parts.items():
        yield f"## {title}"
        yield table.markdown(rows, (label, *own))
        yield "\n".join(f"* {_name(column)}: {column.meaning}" for column in own)
    if "Times" in parts:
        yield f"Medians over the {summary.timed} samples that were timed under all systems."


def sections(columns: Sequence[Column]) -> dict[str, list[Column]]:
    """Columns by what they are about; a subject without any is left out."""
    parts: dict[str, list[Column]] = {"Scores": [], "Tokens and operations": [], "Times": []}
    for column in columns:
        kind = "Scores" if column.of is None else "Tokens and operations"
        parts["Times" if column.averaged == "median" else kind].append(column)
    return {title: own for title, own in parts.items() if own}


def _name(column: Column) -> str:
    return column.heading.replace("\n", " ")


def _listed(title: str, lines: Iterator[str]) -> Iterator[str]:
    if found := [f"* {line}" for line in lines]:
        yield f"## {title}"
        yield "\n".join(found)


def _counts(summary: Summary) -> str:
    """How many samples, and how their answers could be read."""
    label, *counted = named(*_COUNTS)
    columns = (
        label,
        *(Column(one.name, one.meaning, "", int) for one in counted),
    )
    return table.markdown([system.as_dict() for system in summary.systems.values()], columns)


def asked(summary: Summary) -> Iterator[Row]:
    """What was asked of which pipelines, on which machine, with which versions."""
    setting, place = vars(summary.setting), dict(summary.environment)
    lines: dict[str, Any] = {**setting, "samples": summary.samples}
    for system in summary.systems.values():
        lines[f"pipeline of {system.label}"] = system.pipeline
    full = summary.subject.measured.get("full")
    lines["visual tokens of the full model"] = None if full is None else f"{full:.4g}"
    earlier = place.pop("earlier", [])
    lines |= place | {"resumed after": [sitting["until"] for sitting in earlier]}
    for name, value in lines.items():
        if value not in (None, "", {}, []) and name != "note":
            yield {"name": name, "value": _written(value)}


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def _answers(summary: Summary, systems: Sequence[System]) -> Iterator[str]:
    """Of a question about one video: what each system says, and the tokens kept of each frame."""
    by_name = {system.name: system.answers[0] for system in systems}
    labels = {role: system.label for role, system in summary.systems.items()}
    yield "## Answers"
    rows = [{"name": labels[role], "value": _said(by_name[role])} for role in labels]
    yield table.markdown(rows, _PLACE)
    kept = {role: by_name[role].tokens.get("kept_per_frame") for role in labels}
    known = {role: counts for role, counts in kept.items() if counts}
    if known:
        yield "## Tokens kept per frame"
        columns = [Column("frame", "frame", "", int)]
        merges = {role: " (merged)" * bool(by_name[role].tokens.get("merged")) for role in known}
        columns += [Column(role, labels[role] + merges[role], "", int) for role in known]
        lines = [
            {"frame": number, **dict(zip(known, counts, strict=True))}
            for number, counts in enumerate(zip(*known.values(), strict=True), 1)
        ]
        yield table.markdown(lines, columns)


def _said(answer: Answer) -> str:
    return answer.error or answer.prediction
