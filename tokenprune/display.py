"""The results of a run in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.differences import moved
from tokenprune.run import Finished
from tokenprune.statistics import points, probability, verdict, within
from tokenprune.summary import ROLES

_UNBOUNDED = 10_000  # characters, more than any table takes
_BAR = 40  # characters of a whole frame
_REASON = 160  # characters shown of why a sample could not be evaluated


def results(finished: Finished, width: int) -> RenderableType:
    """Everything `tokenprune run` prints at the end, for a terminal of `width` characters."""
    summary = finished.summary
    parts: list[RenderableType] = []
    if summary["video"] is not None:
        parts += [_answers(finished), _frames(finished)]
    across = _table(summary)
    fits = Console(width=_UNBOUNDED).measure(across).maximum <= width
    parts += [across if fits else _table(summary, upright=True), Text(_legend(summary), style="dim", overflow="fold")]
    if len(summary["categories"]) > 1:
        parts.append(_families(summary))
    if "metrics" in summary:
        parts.append(_metrics(summary))
    parts += [Text(line, overflow="fold") for line in _remarks(summary)]
    parts.append(Text(_where(finished), overflow="fold"))
    if "note" in summary:
        parts.append(Text(summary["note"], style="dim"))
    return Group(*parts)


def _table(summary: Mapping[str, Any], upright: bool = False) -> Table:
    """A row (`upright`: a column) for each system; one that plays two parts is shown once."""
    systems = _systems(summary)
    table = Table(box=SIMPLE_HEAD, collapse_padding=True)
    lines = [("system", [system["label"] for system in systems])]
    if summary["score"] is not None:
        heading = "score\n[95 %]" if any(system["interval"] for system in systems) else "score"
        lines.append((heading, [_score(system) for system in systems]))
    if changes := [system["difference"] for system in systems if system["difference"] is not None]:
        heading = "Δ vanilla\n[95 %]" if any(change["interval"] for change in changes) else "Δ vanilla"
        lines.append((heading, [_change(system["difference"]) for system in systems]))
    for heading, name in (
        ("asked\ntokens", "asked_ratio"),
        ("LLM input\ntokens", "input_ratio"),
        ("layer avg\ntokens", "layer_average_ratio"),
        ("decode\ntokens", "decode_ratio"),
    ):
        lines.append((heading, [_percent(system["tokens"][name]) for system in systems]))
    lines.append(("FLOPs\nprefill", [_percent(system["flops_ratio"]) for system in systems]))
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
        table.add_row(Text(name), *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    return table


def _systems(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Each system once, the full model first."""
    return list({summary["systems"][role]["label"]: summary["systems"][role] for role in ROLES}.values())


def _score(system: Mapping[str, Any]) -> str:
    if system["score"] is None:
        return "-"
    between = "" if system["interval"] is None else "\n[{:.1f}, {:.1f}]".format(*(100 * x for x in system["interval"]))
    return f"{100 * system['score']:.1f}{between}"


def _change(paired: Mapping[str, Any] | None, between: str = "\n") -> str:
    """A difference in points with its p, and its interval."""
    if paired is None:
        return "-"
    p = "" if paired["mcnemar_p"] is None else f" {probability(paired['mcnemar_p'])}"
    return f"{points(paired['value'])}{p}{between}{within(paired['interval'])}".rstrip()


def _remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the table does not say by itself."""
    own, random = summary["systems"]["own"], summary["systems"]["random"]
    if (paired := own["against_random"]) is not None:
        yield (
            f"{own['label']} against {random['label']} at the same measured budget: {_change(paired, between=' ')} "
            f"points: {verdict(paired['interval'], random['label'])}."
        )
    if summary["errors"]:
        reason = shorten(summary["first_error"], _REASON, placeholder=" ...")
        yield (
            f"{summary['errors']} of {summary['samples']} samples could not be evaluated (first: {reason}); "
            "all figures are of the others."
        )
    for system in _systems(summary):
        if system["reused"] is not None:
            yield (
                f"{system['label']} was not run again: its answers are from {system['reused']}. All times are medians "
                f"over the same {summary['timed']} samples, measured in this run."
            )
        if system["refused"] is not None:
            yield f"{system['label']} was run again, since answers could not be reused of {system['refused']}."
    if earlier := summary["environment"].get("earlier"):
        counts = ", ".join(str(sitting["until"]) for sitting in earlier)
        yield f"This run was resumed after {counts} answers: its times are of different sittings."
        if changes := moved(summary["environment"], earlier):
            yield f"Its answers are of different environments: {'; '.join(changes)}."


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.1f} %"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _legend(summary: Mapping[str, Any]) -> str:
    """What the columns mean, and what they include."""
    systems = {system["label"]: system for system in summary["systems"].values()}
    text = ""
    if (count := len(summary["categories"])) > 1:
        known = any(system["interval"] for system in systems.values())
        text = f"Score: mean over {count} families{'' if known else '; too few samples for an interval'}. "
    text += (
        "Visual tokens of the full model = 100 %: as asked for, measured at the LLM's input, averaged over its layers "
        "(random gets the same), and visible to a decoding step."
    )
    if any(system["difference"] is not None for system in systems.values()):
        text += " Δ: difference in points, paired by sample; p: McNemar's exact test, where answers are right or wrong."
    for label, system in systems.items():
        if guide := system["guide_flops_ratio"]:
            rest = system["flops_ratio"] - guide
            text += (
                f" FLOPs of {label}: {_percent(guide)} for its guide, which sees all tokens, {_percent(rest)} without."
            )
    return text


def _where(finished: Finished) -> str:
    summary, where = finished.summary, finished.summary["environment"]
    what = f"{summary['samples']} samples of {summary['task']}" if summary["task"] else f"video {summary['video']}"
    full = summary["tokens"]["full"]
    tokens = "" if full is None else f", {full:.0f} visual tokens uncompressed"
    return (
        f"model {summary['model']} ({where['dtype']} on {where['device']}), {what}, {summary['frames']} frames each"
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
            table.add_column(f"{systems[role]['label']} ({_percent(tokens)} of visual tokens)", overflow="fold")
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
