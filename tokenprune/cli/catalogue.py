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
    Condenser,
    DecodeStage,
    Pipeline,
    PrefillStage,
    Strategy,
    TowerMerger,
    TowerReader,
    TowerReuser,
    TowerStage,
    VisionStage,
)

STAGES = {
    "tower": TowerStage,
    "allocate": Allocator,
    "vision": VisionStage,
    "condense": Condenser,
    "prefill": PrefillStage,
    "decode": DecodeStage,
}  # in running order

HEADINGS = {
    "tower": "tower: fewer rows for the vision tower's layers, and a full grid behind them",
    "allocate": "allocate: where the tokens of another strategy go",
    "vision": "vision: a budget of each frame, between projector and LLM",
    "condense": "condense: as many tokens as the content gives, between projector and LLM",
    "prefill": "prefill: before one or several LLM layers, once per prompt",
    "decode": "decode: what every generated token sees",
}


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


def by_stage() -> dict[str, list[Entry]]:
    """The same, by the first of their stages, in running order; stages that have some."""
    found: dict[str, list[Entry]] = {stage: [] for stage in STAGES}
    for entry in entries():
        found[entry.stages[0]].append(entry)
    return {stage: some for stage, some in found.items() if some}


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
    """The tables of strategies for README and docs, one for each stage, without a final newline."""
    parts: list[str] = []
    for stage, some in by_stage().items():
        rows = [f"**{HEADINGS[stage].capitalize()}**", ""]
        rows += ["| strategy | stages | options and defaults | paper |"]
        rows += ["| --- | --- | --- | --- |"]
        rows += [_row(entry) for entry in some]
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _row(entry: Entry) -> str:
    fields = ", ".join(f"`{name}={as_typed(value)}`" for name, value in entry.fields.items())
    paper = f"[{entry.paper}]({entry.link})" if entry.link else entry.paper
    return f"| `{entry.name}` | {', '.join(entry.stages)} | {fields} | {paper} |"


def listing() -> Table:
    """The same for the terminal, in one table."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("strategy", "stages", "options and defaults", "paper"):
        table.add_column(column, overflow="fold", no_wrap=column == "strategy")
    for stage, some in by_stage().items():
        name, _, meaning = HEADINGS[stage].partition(": ")
        table.add_row(f"[bold]{name}[/bold]", "", "", f"[italic]{meaning}[/italic]")
        for entry in some:
            fields = "\n".join(
                f"{entry.name}.{name}={as_typed(value)}" for name, value in entry.fields.items()
            )
            paper = f"{entry.paper}\n{entry.link}".strip()
            table.add_row(f"  {entry.name}", "\n".join(entry.stages), fields, paper)
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
    for stage in pipeline.of(TowerMerger):
        when = "once per video, in every layer of the vision tower"
        found.append(("tower", stage, when, "keys of that layer, mean over heads"))
    for stage in pipeline.of(TowerReuser):
        when = "once per video, before the vision tower's first layer"
        found.append(("tower", stage, when, "pixels of every patch"))
    for stage in pipeline.of(Allocator):
        host = next(iter(pipeline.hosts), None)
        name = getattr(host, "name", "its host")
        when = f"once per prompt, first: splits the budget of {name} over frames"
        reads = "the guide's attention over the whole prompt (the model or assistant=)"
        found.append(("allocate", stage, when, reads))
    for stage in pipeline.at_input:
        kind = "condense" if isinstance(stage, Condenser) else "vision"
        found.append((kind, stage, "once per video, before the LLM", _read_at_input(stage)))
    for stage in pipeline.of(PrefillStage):
        when, below = _layers(stage)
        reads = f"attention of the last prompt token in {below}"
        found.append(("prefill", stage, when, reads))
    for stage in pipeline.of(DecodeStage):
        reads = f"attention of the new token in layer {stage.layer - 1}"
        when = f"every generated token, from LLM layer {stage.layer} up"
        found.append(("decode", stage, when, reads))
    return found


def _read_at_input(stage: Strategy) -> str:
    reads = ["visual tokens after the projector"]
    if isinstance(stage, TowerReader):
        asked = {kind for kind, how in stage.signals()._asdict().items() if how}
        of_tower = [f"{kind} of the vision tower" for kind in TOWER if kind in asked]
        reads += of_tower + ["the text behind the video"] * ("text" in asked)
    return ", ".join(reads)


TOWER = ("saliency", "keys", "tower", "summary")  # what signals say of the vision tower


def _layers(stage: PrefillStage) -> tuple[str, str]:
    """When a prefill stage runs, and the layers it looks into; `show` knows no model."""
    if hasattr(stage, "layer"):
        when = f"once per prompt, before LLM layer {stage.layer}"
        return when, f"layer {stage.layer - 1}"
    of_28 = ", ".join(map(str, stage.layers(28)))
    return f"once per prompt and layer: of 28 LLM layers before {of_28}", "the layer below"


def plan(pipeline: Pipeline) -> Table:
    """A resolved pipeline, stage by stage, with every field's value; a strategy's fields stand at
    its first stage.
    """
    table = Table(box=SIMPLE_HEAD, title=str(pipeline), title_justify="left")
    for column in ("", "stage", "strategy", "runs", "reads", "fields"):
        table.add_column(column, overflow="fold", no_wrap=column in ("stage", "strategy"))
    shown: set[str] = set()
    for number, (stage, strategy, when, reads) in enumerate(steps(pipeline), start=1):
        fields: Any = strategy  # a dataclass
        values = {one.name: getattr(strategy, one.name) for one in dataclasses.fields(fields)}
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
