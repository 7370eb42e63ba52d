"""The columns of results: what each is called, means, and how it is read from a run's answers.

The same names stand in records, in `summary.json`, in CSV and in Parquet; terminals and pages show
the headings. A new column is one `Column` here, beside the code that measures it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from tokenprune.results.answer import Answer
from tokenprune.results.column import COMPARISON, ESTIMATE, Column, Row
from tokenprune.results.statistics import mean

_PARTS = {
    "_low": "lower end of its 95 % interval",
    "_high": "upper end of its 95 % interval",
    "_p": "p of the bootstrap, two-sided",
    "_p_holm": "the same after Holm's correction for the number of comparisons",
}


def _median(values: Iterable[float | int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _sum(values: Iterable[float | int | None]) -> int:
    return int(sum(value or 0 for value in values))


# over the samples that every system answered; a median over those that were timed under every one
AVERAGES: Mapping[str, Callable[[Iterable[float | int | None]], float | int | None]] = {
    "mean": mean,
    "median": _median,
    "sum": _sum,
}


def _tokens(name: str) -> Callable[[Answer], float | int | None]:
    return lambda answer: answer.tokens.get(name)


def _time(name: str) -> Callable[[Answer], float | int | None]:
    return lambda answer: answer.time.get(name)


def _reading(name: str) -> Callable[[Answer], float | int | None]:
    return lambda answer: answer.reading == name


_DIFFERENCE = {"unit": "points", "parts": COMPARISON}
COLUMNS: tuple[Column, ...] = (
    # what it is
    Column("role", "", "vanilla is the full model, random the control", str),
    Column("label", "system", "the system's name", str),
    Column("pipeline", "", "its strategies, joined by +", str),
    Column("strategy", "strategy", "methods joined by +, as they were asked for", str),
    Column("options", "", "of the strategies, as JSON", str),
    Column("method", "method", "a strategy with those of its options that a study names", str),
    Column("allocator", "allocator", "the strategy that shares the budget out to frames", str),
    Column("guide", "guide", "the model that weighs frames for the allocator", str),
    Column("keep_requested", "keep\nasked", "retention that was asked for", unit="%"),
    Column("tokens_per_frame", "tokens\nper frame", "budget in whole tokens", int),
    Column("budget", "budget", "the same as a fraction of the frame's tokens", unit="%"),
    Column("status", "", "ok, unreachable, or failed if no sample was answered", str),
    Column("reason", "", "why it is not ok", str),
    # how good it is
    Column(
        "score",
        "score",
        "mean over categories of their mean scores, a fraction",
        unit="%",
        parts=ESTIMATE,
    ),
    Column("to_vanilla", "Δ vanilla", "score minus the full model's, by sample", **_DIFFERENCE),
    Column("to_vanilla_mcnemar_p", "", "p of McNemar's exact test, where it applies"),
    Column("share_of_vanilla", "of vanilla", "score as a fraction of the full model's", unit="%"),
    Column("to_random", "Δ random", "score minus that of random at its budget", **_DIFFERENCE),
    Column("to_random_mcnemar_p", "", "p of McNemar's exact test, where it applies"),
    Column("to_host", "Δ alone", "score minus the method's without allocator", **_DIFFERENCE),
    # what is left of the video
    Column("full", "", "visual tokens without compression", of=_tokens("full")),
    Column("kept", "", "visual tokens at the LLM's input", of=_tokens("kept")),
    Column(
        "requested_ratio",
        "asked\ntokens",
        "asked of the stages",
        unit="%",
        of=_tokens("requested_ratio"),
    ),
    Column(
        "input_ratio",
        "LLM input\ntokens",
        "measured at the LLM's input",
        unit="%",
        of=_tokens("input_ratio"),
    ),
    Column(
        "layer_average_ratio",
        "layer avg\ntokens",
        "averaged over its layers (random gets the same)",
        unit="%",
        of=_tokens("layer_average_ratio"),
    ),
    Column(
        "decode_ratio",
        "decode\ntokens",
        "visible to a decoding step",
        unit="%",
        of=_tokens("decode_ratio"),
    ),
    Column("off_budget", "", "1: measured more than half a point off the budget", int),
    Column(
        "unseen",
        "",
        "samples of which some LLM layer saw no visual token",
        int,
        of=lambda answer: answer.tokens.get("unseen_from") is not None,
        averaged="sum",
    ),
    Column(
        "merged",
        "",
        "samples whose kept tokens may stand for several",
        int,
        of=lambda answer: bool(answer.tokens.get("merged")),
        averaged="sum",
    ),
    # what it costs
    Column(
        "tower_ratio",
        "",
        "rows that the tower worked on under a stage inside it, mean over its layers",
        unit="%",
        of=lambda answer: answer.tokens.get("tower", {}).get("ratio"),
    ),
    Column(
        "flops_ratio",
        "FLOPs\nprefill",
        "operations of the prefill over visual tokens, with the guide's",
        unit="%",
        of=lambda answer: answer.flops_ratio,
    ),
    Column(
        "guide_flops_ratio",
        "",
        "the guide's part of it",
        unit="%",
        of=lambda answer: answer.guide_flops_ratio,
    ),
    Column(
        "answer_ms",
        "answer",
        "the whole answer: the parts that follow, all decoding steps, and what lies between",
        unit="ms",
        of=_time("answer_ms"),
        averaged="median",
    ),
    Column(
        "vision_ms",
        "vision",
        "tower and projector",
        unit="ms",
        of=_time("vision_ms"),
        averaged="median",
    ),
    Column(
        "strategy_ms",
        "strategy",
        "stages before the first token, with what they read of attention",
        unit="ms",
        of=_time("strategy_ms"),
        averaged="median",
    ),
    Column(
        "probe_ms",
        "probe",
        "the pass of an allocator's guide",
        unit="ms",
        of=lambda answer: answer.time.get("probe_ms") or None,  # 0: there is no guide
        averaged="median",
    ),
    Column(
        "prefill_ms",
        "prefill",
        "the rest of the LLM's pass over the prompt",
        unit="ms",
        of=_time("prefill_ms"),
        averaged="median",
    ),
    Column(
        "decode_ms_per_token",
        "decode",
        "a decoding step",
        unit="ms/token",
        of=_time("decode_ms_per_token"),
        averaged="median",
    ),
    Column(
        "choosing_ms_per_token",
        "",
        "the decode stage's part of it",
        unit="ms/token",
        of=_time("choosing_ms_per_token"),
        averaged="median",
    ),
    # what it is a figure of
    Column("samples", "", "samples that were asked", int),
    Column("errors", "", "samples among them that could not be evaluated", int),
    Column("empty", "", "empty answers", int, of=_reading("empty"), averaged="sum"),
    Column(
        "unparsed",
        "",
        "answers that could not be read as an option",
        int,
        of=_reading("unparsed"),
        averaged="sum",
    ),
    Column(
        "guessed",
        "",
        "answers that a benchmark replaced by a random option",
        int,
        of=_reading("guessed"),
        averaged="sum",
    ),
    Column("reused", "", "the run that its answers were taken from", str),
    Column("refused", "", "why answers of another run were not taken", str),
    Column("model", "", "the model", str),
    Column("assistant", "", "the model that weighs frames, if another one", str),
    Column("task", "", "the task", str),
    Column("frames", "", "frames per video", int),
    Column("seed", "", "of samples and random draws", int),
)


def named(*names: str) -> tuple[Column, ...]:
    """Columns by name, in this order."""
    known = {column.name: column for column in COLUMNS}
    return tuple(known[name] for name in names)


def measured() -> tuple[Column, ...]:
    """Columns that a run reads from its answers."""
    return tuple(column for column in COLUMNS if column.of is not None)


def present(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Columns that any of the rows has, in the order of the table."""
    return tuple(column for column in COLUMNS if any(column.name in row for row in rows))


def shown(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Columns for people of which any row knows something."""
    return tuple(
        column
        for column in COLUMNS
        if column.heading and any(row.get(column.name) is not None for row in rows)
    )


def columns_markdown() -> str:
    """The table of columns for the documentation."""
    lines = ["| column | in tables | unit | meaning | of a run's samples |", "|--|--|--|--|--|"]
    for column in COLUMNS:
        heading = column.heading.replace("\n", " ")
        unit = {"%": "fraction, shown in %", "points": "fraction, shown in points"}
        how = column.averaged if column.of is not None else ""
        cells = (f"`{column.name}`", heading, unit.get(column.unit, column.unit))
        lines.append(f"| {' | '.join((*cells, column.meaning, how))} |")
    ends = "; ".join(f"`{part}`: {meaning}" for part, meaning in _PARTS.items())
    return "\n".join(lines) + f"\n\nFurther fields of a score or a difference in files: {ends}."
