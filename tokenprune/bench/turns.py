"""Who takes turns: all candidates do, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress
from transformers import PreTrainedModel

from tokenprune.bench.candidates import Attached, Dense
from tokenprune.bench.inputs import Inputs
from tokenprune.bench.measure import Candidate
from tokenprune.bench.oracle import oracle, widths
from tokenprune.bench.ratios import Lines
from tokenprune.bench.reading import Reading
from tokenprune.errors import ConfigError
from tokenprune.evaluation.control import control
from tokenprune.strategy import Pipeline

Readings = Mapping[str, Sequence[Reading]]  # of every candidate by its name, one each turn


@dataclass(frozen=True)
class Lineup:
    """Candidates by name; several strategies may share a reference."""

    candidates: dict[str, Candidate]
    lines: dict[str, dict[str, str]]  # by a strategy's spec: the candidate of each line

    @property
    def dense(self) -> dict[str, int]:
        """The widths of dense candidates by their names."""
        found = self.candidates.items()
        return {name: one.width for name, one in found if isinstance(one, Dense)}


def line_up(
    pipelines: Mapping[str, Pipeline],
    inputs: Inputs,
    tokens: int,
    seed: int,
    assistant: PreTrainedModel | None,
) -> Lineup:
    """The full model, each strategy, and what it is held against.

    A first pass of a strategy says what it keeps.
    """
    candidates: dict[str, Candidate] = {"vanilla": Dense(inputs, tokens, inputs.full)}
    lines: dict[str, dict[str, str]] = {}
    for spec, pipeline in pipelines.items():
        strategy = Attached(inputs, tokens, pipeline, assistant)
        candidates[f"strategy {spec}"] = strategy
        seen = strategy.turn().seen
        for width in sorted(widths(seen) - {inputs.full}):
            candidates.setdefault(f"dense {width}", Dense(inputs, tokens, width))
        kept = statistics.fmean(seen.layers) / inputs.full
        candidates.setdefault(f"random {kept!r}", Attached(inputs, tokens, control([kept], seed)))
        lines[spec] = {
            "vanilla": "vanilla",
            "random": f"random {kept!r}",
            "strategy": f"strategy {spec}",
        }
    return Lineup(candidates, lines)


def take_turns(
    candidates: Mapping[str, Candidate], warmup: int, repeats: int, between: Callable[[], object]
) -> dict[str, list[Reading]]:
    """Readings of every candidate by name.

    Each turn begins with another candidate: no place in it is the best. `between` is called before
    and after each measured turn. ConfigError where one kept different numbers of tokens in
    different turns.
    """
    taken: dict[str, list[Reading]] = {name: [] for name in candidates}
    names, turns = list(candidates), warmup + repeats
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("turns", total=len(names) * turns)
        for turn in range(turns):
            start = turn % len(names)
            for name in [*names[start:], *names[:start]]:
                if turn < warmup:
                    candidates[name].warm_up()
                else:
                    taken[name].append(candidates[name].turn())
                progress.advance(task)
            if turn >= warmup - 1:
                between()
    for name, readings in taken.items():
        if any(reading.seen.layers != readings[0].seen.layers for reading in readings):
            raise ConfigError(
                f"{name} kept different numbers of tokens in different turns, which cannot be "
                "compared"
            )
    return taken


def lines_of(lineup: Lineup, readings: Readings, tokens: int) -> dict[str, Lines]:
    """By a strategy's spec, the readings of its lines, the oracle's put together."""
    found: dict[str, Lines] = {}
    for spec, names in lineup.lines.items():
        lines = {line: readings[name] for line, name in names.items()}
        found[spec] = {**lines, "oracle": _oracles(lineup, readings, lines["strategy"], tokens)}
    return found


def _oracles(
    lineup: Lineup, readings: Readings, strategy: Sequence[Reading], tokens: int
) -> list[Reading]:
    """One for each turn, of the dense readings in the same turn."""
    found = []
    for turn, reading in enumerate(strategy):
        dense = {width: readings[name][turn] for name, width in lineup.dense.items()}
        found.append(oracle(reading.seen, dense, tokens))
    return found
