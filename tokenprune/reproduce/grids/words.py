"""What an analogue's page and screen say of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tokenprune.options import as_typed
from tokenprune.reproduce.grids.grid import CONTROL, FULL, METHOD, Grid, Interval, Line, Told

COLUMNS = (
    "method",
    "tokens kept",
    "at decode",
    "score",
    "Δ full model",
    "Δ random",
    "Δ uniform",
)
NOTHING = "-"
MINUS = "\N{MINUS SIGN}"


def head(grid: Grid) -> str:
    """The sentence that stands above every analogue."""
    return (
        f"Analogue on the embedded model, {grid.samples} synthetic samples. It shows that the grid "
        "runs and how the method behaves there. It is not a reproduction."
    )


def setting(grid: Grid) -> str:
    """What ran, and what the columns mean."""
    guides = sorted({str(line.assistant) for line in grid.lines if line.assistant} - {"self"})
    guided = f", guided by `{'`, `'.join(guides)}` where a row says so" if guides else ""
    frames = ", ".join(map(str, grid.frames))
    return (
        f"Model `{grid.model}` ({grid.layers} layers, {grid.cells} tokens a frame){guided}; "
        f"`{grid.task}`, {frames} frames, seed {grid.seed}, greedy answers of at most "
        f"{grid.max_new_tokens} tokens, {grid.dtype}. Tokens kept: mean over layers at prefill, as "
        "measured; at decode: those that a generated token sees. Score: mean over categories, in "
        "%. Δ: points, paired by sample; `random` and `uniform` have the same measured tokens. In "
        f"brackets 95 % intervals (bootstrap, {grid.resamples:,} resamples); a star marks what "
        "holds after Holm's correction for the number of cells."
    )


def place(grid: Grid) -> str:
    """Where, when and with what it ran."""
    versions = ", ".join(f"{name} {version}" for name, version in grid.versions.items())
    revision = f", revision {grid.revision[:12]}" if grid.revision else ""
    return f"Ran on {grid.date} on {grid.machine}, {versions}{revision}."


def rows(grid: Grid) -> list[tuple[str, ...]]:
    """COLUMNS of every line: the full model, the methods, then the controls; by frames."""
    return [
        row(line)
        for frames in grid.frames
        for role in (FULL, METHOD, CONTROL)
        for line in grid.of(role, frames)
    ]


def row(line: Line) -> tuple[str, ...]:
    name = line.label if line.role == METHOD else f"*{line.label}*"
    return (
        name + (f" ({line.errors} failed)" if line.errors else ""),
        f"{line.retention:.1f} %",
        f"{line.decode:.1f} %",
        estimate(line.score),
        difference(line.to_full),
        difference(line.to_random),
        difference(line.to_uniform),
    )


def estimate(found: Interval) -> str:
    """`78.4 [71.2, 84.9]`."""
    value = f"{found.value:.1f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} [{found.low:.1f}, {found.high:.1f}]"


def difference(found: Interval | None) -> str:
    """`−4.1 [−8.0, −0.2]`, with a star where it is claimed."""
    if found is None:
        return NOTHING
    text = signed(found.value)
    if found.low is not None and found.high is not None:
        text += f" [{signed(found.low)}, {signed(found.high)}]"
    return f"{text} *" if found.claimed else text


def signed(value: float) -> str:
    """With a sign, unless it is 0 as shown."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else f"{'+' if value > 0 else MINUS}{text}"


def findings(grid: Grid) -> Iterator[str]:
    """What the cells say of the methods; also where nothing can be told."""
    methods = grid.of(METHOD)
    yield from _compared(methods, "the full model", lambda line: line.to_full)
    yield from _compared(methods, "`random` at the same tokens", lambda line: line.to_random)
    yield from _compared(methods, "`uniform` at the same tokens", lambda line: line.to_uniform)
    yield from map(claim, grid.claims)


def _compared(
    methods: Sequence[Line], whom: str, of: Callable[[Line], Interval | None]
) -> Iterator[str]:
    found = [(line, one) for line in methods if (one := of(line)) is not None]
    if not found:
        return
    above = [line.label for line, one in found if one.claimed == 1]
    below = [line.label for line, one in found if one.claimed == -1]
    rest = len(found) - len(above) - len(below)
    if rest == len(found):
        yield f"No cell is told from {whom}."
        return
    yield (
        f"Above {whom}: {_listed(above, len(found))}. Below: {_listed(below, len(found))}. "
        f"Not told apart: {rest} of {len(found)} cells."
    )


def _listed(labels: Sequence[str], of: int) -> str:
    if not labels:
        return "none"
    return "all" if len(labels) == of else "; ".join(labels)


def claim(told: Told) -> str:
    """`"DyCoke beats ..." (describe): cannot tell, A less B +1.2 [-3.4, +5.6] points`."""
    by = "" if told.difference is None else f" {difference(told.difference)} points"
    return (
        f'"{told.says}", of {told.column} here: {told.word}; {told.better} less {told.worse}:{by}'
    )


def translated(grid: Grid) -> str:
    """What was changed, in one sentence."""
    return f"Translated: {'; '.join(grid.translated)}." if grid.translated else ""


def axis(name: str) -> str:
    """What stands below an axis: an option as it is written."""
    return {"frames": "frames", "keep": "tokens asked for, %"}.get(name, name)


def tick(value: object) -> str:
    return as_typed(value)
