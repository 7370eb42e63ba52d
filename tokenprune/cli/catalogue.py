"""What there is and what a pipeline does: the tables of `tokenprune list` and `tokenprune show`,
and the README's.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tokenprune import checkpoints, registry
from tokenprune.lookup import FAMILIES, TASKS
from tokenprune.options import as_typed
from tokenprune.strategy import (
    Allocator,
    DecodeStage,
    Pipeline,
    PrefillStage,
    Strategy,
    TowerReader,
    VisionStage,
)

STAGES = {
    "allocate": Allocator,
    "vision": VisionStage,
    "prefill": PrefillStage,
    "decode": DecodeStage,
}  # in running order


class Entry(NamedTuple):
    """One strategy of the catalogue."""

    name: str
    stages: tuple[str, ...]
    fields: dict[str, Any]  # defaults
    paper: str  # first line of the docstring, without the link
    link: str


def entries() -> list[Entry]:
    """All registered strategies, by name."""
    return [_entry(registry.get(name)) for name in registry.names()]


def _entry(kind: type[Strategy]) -> Entry:
    first = (inspect.getdoc(kind) or "").split("\n")[0]
    if first.startswith(f"{kind.__name__}("):  # what dataclass writes where nobody did
        first = ""
    paper, _, link = first.partition("https://")
    fields = (
        {}
        if not dataclasses.is_dataclass(kind)
        else {f.name: _default(f) for f in dataclasses.fields(kind)}
    )
    stages = tuple(stage for stage, interface in STAGES.items() if issubclass(kind, interface))
    return Entry(kind.name, stages, fields, paper.rstrip(" ,"), f"https://{link}" if link else "")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return (
        field.default_factory()
        if field.default_factory is not dataclasses.MISSING
        else "(required)"
    )


def strategies_markdown() -> str:
    """The table of strategies for README and docs, one row each, without a final newline."""
    rows = ["| strategy | stage | options and defaults | paper |", "| --- | --- | --- | --- |"]
    for entry in entries():
        fields = ", ".join(f"`{name}={as_typed(value)}`" for name, value in entry.fields.items())
        paper = f"[{entry.paper}]({entry.link})" if entry.link else entry.paper
        rows.append(f"| `{entry.name}` | {', '.join(entry.stages)} | {fields} | {paper} |")
    return "\n".join(rows)


def listing() -> Table:
    """The same table for the terminal."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("strategy", "stage", "options and defaults", "paper"):
        table.add_column(column, overflow="fold", no_wrap=column == "strategy")
    for entry in entries():
        fields = "\n".join(
            f"{entry.name}.{name}={as_typed(value)}" for name, value in entry.fields.items()
        )
        table.add_row(
            entry.name, "\n".join(entry.stages), fields, f"{entry.paper}\n{entry.link}".strip()
        )
        table.add_section()
    return table


def others() -> Table:
    """What a run can name besides strategies. Nothing built-in is imported for it."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("", "names", "besides", "as in"):
        table.add_column(column, overflow="fold")
    tasks = "\n".join(TASKS.also)
    table.add_row("tasks", "\n".join(TASKS.names()), tasks, "task=tinyvqa")
    hub = "a folder, or a hub id of one of these families"
    table.add_row("model families", "\n".join(FAMILIES.names()), "", "")
    table.add_row("checkpoints", "\n".join(checkpoints.names()), hub, "model=tiny")
    return table


def steps(pipeline: Pipeline) -> list[tuple[str, Strategy, str, str]]:
    """The stages of a pipeline in running order: kind of stage, strategy, when it runs, and what it
    reads.
    """
    found: list[tuple[str, Strategy, str, str]] = []
    for stage in pipeline.of(Allocator):
        host = next(iter([*pipeline.of(VisionStage), *pipeline.of(PrefillStage)]), None)
        when = (
            f"once per prompt, first: splits the budget of {getattr(host, 'name', 'its host')} "
            "over frames"
        )
        found.append(
            (
                "allocate",
                stage,
                when,
                "the guide's attention over the whole prompt (the model or assistant=)",
            )
        )
    for stage in pipeline.of(VisionStage):
        reads = "visual tokens after the projector"
        if isinstance(stage, TowerReader):
            reads += "".join(
                f", {kind} of the vision tower"
                for kind, how in stage.signals()._asdict().items()
                if how
            )
        found.append(("vision", stage, "once per video, before the LLM", reads))  # pyright: ignore[reportArgumentType]
    for stage in pipeline.of(PrefillStage):
        reads = f"attention of the last prompt token in layer {stage.layer - 1}"
        found.append(("prefill", stage, f"once per prompt, before LLM layer {stage.layer}", reads))
    for stage in pipeline.of(DecodeStage):
        reads = f"attention of the new token in layer {stage.layer - 1}"
        found.append(
            ("decode", stage, f"every generated token, from LLM layer {stage.layer} up", reads)
        )
    return found


def plan(pipeline: Pipeline) -> Table:
    """A resolved pipeline, stage by stage, with every field's value; a strategy's fields stand at
    its first stage.
    """
    table = Table(box=SIMPLE_HEAD, title=str(pipeline), title_justify="left")
    for column in ("", "stage", "strategy", "runs", "reads", "fields"):
        table.add_column(column, overflow="fold", no_wrap=column in ("stage", "strategy"))
    shown: set[str] = set()
    for number, (stage, strategy, when, reads) in enumerate(steps(pipeline), start=1):
        values = {f.name: getattr(strategy, f.name) for f in dataclasses.fields(strategy)}  # pyright: ignore[reportArgumentType]
        text = "\n".join(f"{name}={as_typed(value)}" for name, value in values.items())
        table.add_row(
            str(number),
            stage,
            strategy.name,
            when,
            reads,
            "as above" if strategy.name in shown else text,
        )
        shown.add(strategy.name)
    if not pipeline.strategies:
        table.add_row("", "none", "", "the model as it is: nothing is compressed", "", "")
    return table
