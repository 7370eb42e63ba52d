"""The results of a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.evaluation.run import Finished
from tokenprune.results.notes import change, legend, percent, remarks, systems_of
from tokenprune.results.summary import ROLES
from tokenprune.results.wording import between

_UNBOUNDED = 10_000  # characters, more than any table takes
_BAR = 40  # characters of a whole frame


def results(finished: Finished, width: int) -> RenderableType:
    """Everything `tokenprune run` prints at the end, for a terminal of `width` characters."""
    summary = finished.summary
    parts: list[RenderableType] = []
    if summary["video"] is not None:
        parts += [_answers(finished), _frames(finished)]
    across = _table(summary)
    fits = Console(width=_UNBOUNDED).measure(across).maximum <= width
    parts += [
        across if fits else _table(summary, upright=True),
        Text(legend(summary), style="dim", overflow="fold"),
    ]
    if len(summary["categories"]) > 1:
        parts.append(_families(summary))
    if "metrics" in summary:
        parts.append(_metrics(summary))
    parts += [Text(line, overflow="fold") for line in remarks(summary)]
    parts.append(Text(_where(finished), overflow="fold"))
    if "note" in summary:
        parts.append(Text(summary["note"], style="dim"))
    return Group(*parts)


def _table(summary: Mapping[str, Any], upright: bool = False) -> Table:
    """A row (`upright`: a column) for each system; one that plays two parts is shown once."""
    systems = systems_of(summary)
    table = Table(box=SIMPLE_HEAD, collapse_padding=True)
    lines = [("system", [system["label"] for system in systems])]
    if summary["score"] is not None:
        heading = "score\n[95 %]" if any(system["interval"] for system in systems) else "score"
        lines.append((heading, [_score(system) for system in systems]))
    if changes := [system["difference"] for system in systems if system["difference"] is not None]:
        heading = (
            "Δ vanilla\n[95 %]" if any(change["interval"] for change in changes) else "Δ vanilla"
        )
        lines.append((heading, [change(system["difference"]) for system in systems]))
    for heading, name in (
        ("asked\ntokens", "asked_ratio"),
        ("LLM input\ntokens", "input_ratio"),
        ("layer avg\ntokens", "layer_average_ratio"),
        ("decode\ntokens", "decode_ratio"),
    ):
        lines.append((heading, [percent(system["tokens"][name]) for system in systems]))
    lines.append(("FLOPs\nprefill", [percent(system["flops_ratio"]) for system in systems]))
    for heading, name in (
        ("vision\nms", "vision_ms"),
        ("strategy\nms", "strategy_ms"),
        ("probe\nms", "probe_ms"),
        ("prefill\nms", "prefill_ms"),
        ("decode\nms/token", "decode_ms_per_token"),
    ):
        if name == "probe_ms" and not any(system["time"].get(name) for system in systems):
            continue
        lines.append((heading, [_ms(system["time"].get(name)) for system in systems]))
    if upright:
        rows = zip(*([heading.replace("\n", " "), *cells] for heading, cells in lines), strict=True)
        lines = [(heading, cells) for heading, *cells in rows]
    for number, (heading, _) in enumerate(lines):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in zip(*(cells for _, cells in lines), strict=True):
        table.add_row(*row)
    return table


def _families(summary: Mapping[str, Any]) -> Table:
    """What suffers: a row per category, a column per system; figures only, so that it stays narrow."""
    columns = {"vanilla": "vanilla_score", "random": "random_score", "own": "score"}
    labels = {summary["systems"][role]["label"]: key for role, key in columns.items()}
    table = Table(box=SIMPLE_HEAD)
    table.add_column("score by family", no_wrap=True)
    for heading in (*labels, "samples"):
        table.add_column(heading, justify="right", no_wrap=True)
    for category, row in summary["categories"].items():
        scores = [f"{100 * row[key]:.1f}" for key in labels.values()]
        table.add_row(category, *scores, str(row["samples"]))
    return table


def _metrics(summary: Mapping[str, Any]) -> Table:
    """A benchmark's own figures, as it reports them."""
    systems, figures = summary["systems"], summary["metrics"]
    columns = {systems[role]["label"]: figures[role] for role in ROLES if role in figures}
    table = Table(box=SIMPLE_HEAD)
    table.add_column("the benchmark's own figures", overflow="fold")
    for label in columns:
        table.add_column(label, justify="right", no_wrap=True)
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        values = [column.get(name, "-") for column in columns.values()]
        table.add_row(
            Text(name),
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values),
        )
    return table


def _score(system: Mapping[str, Any]) -> str:
    if system["score"] is None:
        return "-"
    return f"{100 * system['score']:.1f}\n{between(system['interval'])}".rstrip()


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _where(finished: Finished) -> str:
    summary, where = finished.summary, finished.summary["environment"]
    what = (
        f"{summary['samples']} samples of {summary['task']}"
        if summary["task"]
        else f"video {summary['video']}"
    )
    full = summary["tokens"]["full"]
    tokens = "" if full is None else f", {full:.0f} visual tokens uncompressed"
    return (
        f"model {summary['model']} ({where['dtype']} on {where['device']}), {what}, "
        f"{summary['frames']} frames each"
        f"{tokens}.\nResults in {finished.folder}"
    )


def _answers(finished: Finished) -> Table:
    """The full and the compressed model side by side."""
    systems = finished.summary["systems"]
    table = Table(box=SIMPLE_HEAD, title=f"Q: {finished.summary['question']}", title_justify="left")
    by_name = {system.name: system for system in finished.systems}
    for role in ("vanilla", "own"):
        if role in by_name:
            tokens = systems[role]["tokens"]["layer_average_ratio"]
            table.add_column(
                f"{systems[role]['label']} ({percent(tokens)} of visual tokens)", overflow="fold"
            )
    outcomes = [by_name[role].outcomes[0] for role in ("vanilla", "own") if role in by_name]
    table.add_row(*(Text(outcome.error or outcome.prediction) for outcome in outcomes))
    return table


def _frames(finished: Finished) -> RenderableType:
    """A bar per frame: the tokens that reached the last layer."""
    tokens = finished.systems[-1 if len(finished.systems) == 1 else 1].outcomes[0].tokens
    if not tokens:  # it could not be evaluated
        return Text()
    frames = tokens["kept_per_frame"]
    cells = tokens["full"] // len(frames)
    lines = [f"tokens kept per frame, of {cells}"]
    for number, kept in enumerate(frames):
        filled = round(_BAR * kept / cells)
        lines.append(f"  frame {number + 1:>3}  {'█' * filled}{'░' * (_BAR - filled)} {kept:>4}")
    return Text("\n".join(lines))
