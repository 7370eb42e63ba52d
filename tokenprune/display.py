"""The results of a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.report import SampleReport
from tokenprune.run import Finished
from tokenprune.summary import ROLES

_BAR = 40  # characters of a whole frame
_WIDE = 128  # characters that the table takes with a row per system


def results(finished: Finished, width: int) -> RenderableType:
    """Everything `tokenprune run` prints at the end, for a terminal of `width` characters."""
    summary = finished.summary
    parts: list[RenderableType] = []
    if summary["video"] is not None:
        parts += [_answers(finished), _frames(finished)]
    parts += [_table(summary, upright=width < _WIDE), Text(_legend(summary), style="dim", overflow="fold")]
    if len(summary["categories"]) > 1:
        parts.append(_families(summary))
    parts.append(Text(_where(finished), overflow="fold"))
    if "note" in summary:
        parts.append(Text(summary["note"], style="dim"))
    return Group(*parts)


def _table(summary: Mapping[str, Any], upright: bool) -> Table:
    """A row (`upright`: a column) for each system; one that plays two parts is shown once."""
    systems = {system["label"]: system for system in (summary["systems"][role] for role in ROLES)}.values()
    table = Table(box=SIMPLE_HEAD)
    lines = [("system", [system["label"] for system in systems])]
    if summary["score"] is not None:
        heading = "score\n[95 %]" if any(system["interval"] for system in systems) else "score"
        lines.append((heading, [_score(system) for system in systems]))
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
        ("prefill\nms", "prefill_ms"),
        ("decode\nms/token", "decode_ms_per_token"),
    ):
        lines.append((heading, [_ms(system["time"][name]) for system in systems]))
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


def _score(system: Mapping[str, Any]) -> str:
    if system["score"] is None:
        return "-"
    within = "" if system["interval"] is None else " [{:.1f}, {:.1f}]".format(*(100 * x for x in system["interval"]))
    return f"{100 * system['score']:.1f}{within}"


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
    for label, system in systems.items():
        if (guide := system["guide_flops_ratio"]) > 0:
            rest = system["flops_ratio"] - guide
            text += (
                f" FLOPs of {label}: {_percent(guide)} for its guide, which sees all tokens, {_percent(rest)} without."
            )
    return text


def _where(finished: Finished) -> str:
    summary, where = finished.summary, finished.summary["environment"]
    what = f"{summary['samples']} samples of {summary['task']}" if summary["task"] else f"video {summary['video']}"
    return (
        f"model {summary['model']} ({where['dtype']} on {where['device']}), {what}, {summary['frames']} frames each, "
        f"{summary['tokens']['full']:.0f} visual tokens uncompressed.\n"
        f"Results in {finished.folder}"
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
    table.add_row(*(Text(by_name[role].outcomes[0].prediction) for role in ("vanilla", "own") if role in by_name))
    return table


def _frames(finished: Finished) -> RenderableType:
    """A bar per frame: the tokens that reached the last layer."""
    report: SampleReport = finished.systems[-1 if len(finished.systems) == 1 else 1].outcomes[0].report
    lines = [f"tokens kept per frame, of {report.cells}"]
    for number, slots in enumerate(report.slots):
        filled = round(_BAR * len(slots) / report.cells)
        lines.append(f"  frame {number + 1:>3}  {'█' * filled}{'░' * (_BAR - filled)} {len(slots):>4}")
    return Text("\n".join(lines))
