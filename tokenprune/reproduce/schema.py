"""What a file about a paper's table says: one dataclass per object, unknown keys are errors.

Light to import: the command line reads these files before anything heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.reproduce.parts import Analogue, Claim, Figure, Selector, one_of

# where the figures of a column come from; `judged` is a score that a paid model gives
SOURCES = ("analytic", "derived", "score", "judged", "speed", "text")
KINDS = ("table", "grid", "figure")
# why a row cannot be run: not published, a form that is not built, no adapter, trained anew
REASONS = ("protocol", "strategy", "model", "training")


@dataclass(frozen=True)
class Column:
    """One column of a printed table.

    Args:
        from_: one of SOURCES; `from:` in a file
        label: as it is shown
        unit: behind a figure: "%", "T", "GB", "ms", "s", "x"
        digits: that are shown of ours
        formula: of analytic and derived columns, a name in `formulas` or `derived`
        of: columns that a derived one is computed from
        task: of lmms-eval, under its name in the protocol
        metric: of that task
        scale: what a metric is multiplied with to stand beside the printed figure
        part: the part of a task that the column is about, as {duration: short}
        measure: of speed columns, a measured column of `tokenprune bench`
        lower: whether less is better
        most: the best figure that a score can have: 100, or 5 of a judge's
        n: samples behind a score where that is not the task's number in the protocol
    """

    from_: str
    label: str = ""
    unit: str = ""
    digits: int = 1
    formula: str = ""
    of: list[str] = field(default_factory=list)
    task: str = ""
    metric: str = ""
    scale: float = 1.0
    part: dict[str, Any] = field(default_factory=dict)
    measure: str = ""
    lower: bool = False
    most: float = 100.0
    n: int | None = None

    def __post_init__(self) -> None:
        one_of("from", self.from_, SOURCES)


@dataclass(frozen=True)
class Run:
    """What we run for a row: words of `tokenprune run`.

    Args:
        strategy: as in `strategy=`
        options: of strategies, as in {dycoke.merge: 0.7}
        assistant: the guide, a name in the table's `models`; the model itself by default
        plugin: a strategy file beside the table
        model: a name in the table's `models`; the row's setting by default
        frames: likewise
        assumed: whether this is our reading of an unclear text
        because: the reason for it
    """

    strategy: str
    options: dict[str, Any] = field(default_factory=dict)
    assistant: str | None = None
    plugin: str | None = None
    model: str | None = None
    frames: int | None = None
    assumed: bool = False
    because: str = ""

    def __post_init__(self) -> None:
        if self.assumed and not self.because:
            raise ConfigError("assumed: true needs its reason: write because: TEXT")


@dataclass(frozen=True)
class Blocked:
    """Why nobody can run a row."""

    why: str
    kind: str

    def __post_init__(self) -> None:
        one_of("kind", self.kind, REASONS)


@dataclass(frozen=True)
class Row:
    """One printed row.

    Args:
        method: as printed
        printed: figures in the order of columns; null: not printed
        settings: as printed; `model` and `frames` override the table's defaults
        name: tells the row from all others of the table; the method by default
        run: what we run for it
        blocked: why nobody can
        also: by analytic column, values for its formula that are no printed setting
        same_as: `PAPER/TABLE: NAME` of the row that this one repeats
        provenance: of this row, if it is not the table's
        note: shown behind the row
    """

    method: str
    printed: list[Any]
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    run: Run | None = None
    blocked: Blocked | None = None
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    same_as: str | None = None
    provenance: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.run is not None and self.blocked is not None:
            raise ConfigError(f"the row {self.label} has run: and blocked:, leave one of them out")

    @property
    def label(self) -> str:
        return self.name or self.method

    def matches(self, wanted: Selector) -> bool:
        """Whether the method and all settings of `wanted` are this row's."""
        mine = {**self.settings, "method": self.method, "name": self.label}
        return all(mine.get(key) == value for key, value in wanted.items())


@dataclass(frozen=True)
class Table:
    """A printed table or figure; see the fields of its parts.

    Args:
        paper: the folder that it lies in
        title: as printed
        source: where it is printed
        kind: one of KINDS
        provenance: paper, readme, third-party transcription, ocr-damaged
        protocol: a name in `papers/protocols`
        models: hub ids by the names that rows use
        defaults: model and frames where a row names none
        columns: by name, in the order of `printed`
        baseline: selects the full model's rows
        slips: by column and row name, why an analytic or derived cell differs
        hardware: what speed columns were measured on
        axes: of a grid, what varies
    """

    paper: str
    title: str
    source: str
    kind: str = "table"
    provenance: str = "paper"
    protocol: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    baseline: Selector = field(default_factory=dict)
    slips: dict[str, dict[str, str]] = field(default_factory=dict)
    hardware: str = ""
    claims: list[Claim] = field(default_factory=list)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    analogue: Analogue | None = None
    figure: Figure | None = None
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        labels = [row.label for row in self.rows]
        for place, row in enumerate(self.rows):
            if row.label in labels[:place]:
                raise ConfigError(f"two rows are called {row.label!r}: give one of them a name:")
            if len(row.printed) != len(self.columns):
                raise ConfigError(
                    f"the row {row.label} prints {len(row.printed)} figures for "
                    f"{len(self.columns)} columns: write null where none is printed"
                )

    def setting(self, row: Row, name: str) -> Any:
        """`model` or `frames` of a row, or the table's default."""
        return row.settings.get(name, self.defaults.get(name))

    def printed(self, row: Row, column: str) -> Any:
        """The figure that stands there; None: none does."""
        return row.printed[list(self.columns).index(column)]

    def baseline_of(self, row: Row) -> Row | None:
        """The full model's row with the same model and frames."""
        same = ("model", "frames")
        for other in self.rows:
            if other.matches(self.baseline) and all(
                self.setting(other, name) == self.setting(row, name) for name in same
            ):
                return other
        return None


@dataclass(frozen=True)
class Paper:
    """A paper, and what its tables share.

    Args:
        title: of the paper
        link: to it
        code: the authors' repository
        revision: of the code that was read
        licence: of that code
        tables: names of the files, in the order they are shown
        scope: which of its claims are ours to test
        remarks: shown at the head of its page
    """

    title: str
    link: str
    tables: list[str]
    code: str = ""
    revision: str = ""
    licence: str = ""
    scope: str = ""
    remarks: list[str] = field(default_factory=list)
