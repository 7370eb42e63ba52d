"""What stands on a page: plain data, all of it text, that both templates read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CellView:
    """One cell.

    Args:
        printed: the paper's figure
        ours: ours, "" where there is none or where it is the same
        delta: ours minus printed, with the interval where there is one
        status, sign: in a word, and in one character
        value: what a reader sorts by; None: nothing
        why: what is said when one points at it
        grey: whether our full model deviates, so that the level says nothing
    """

    printed: str
    ours: str
    delta: str
    status: str
    sign: str
    value: float | None = None
    why: str = ""
    grey: bool = False


@dataclass(frozen=True)
class RowView:
    """A row: its cells, and what it is.

    Args:
        settings: as printed
        run: words of `tokenprune run`
        assumed: why that is our reading, if it is
        blocked: why nobody can run it
        repeats: the row of another table that it repeats
    """

    name: str
    cells: list[CellView]
    settings: str = ""
    run: str = ""
    assumed: str = ""
    blocked: str = ""
    repeats: str = ""
    note: str = ""


@dataclass(frozen=True)
class Lines:
    """A table of text, such as effects: a heading for each column, and rows."""

    heads: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Image:
    """A picture beside the page, and the same for the file that needs nothing else."""

    path: str
    alt: str
    caption: str
    inline: str


@dataclass(frozen=True)
class AnalogueView:
    """A grid on the embedded models: never beside printed figures."""

    head: str
    translated: str
    table: Lines
    findings: list[str]
    setting: str
    place: str
    images: list[Image]
    claims: list[tuple[str, str]]  # what is said, and the verdict


@dataclass(frozen=True)
class TableView:
    """A printed table or figure.

    Args:
        anchor: where links lead
        told: how many cells have which status
        banner: that our full model deviates, and of which columns
        notes: on provenance and protocol
    """

    id: str
    anchor: str
    title: str
    source: str
    notes: list[str]
    heads: list[str]
    rows: list[RowView]
    told: str
    banner: str = ""
    effects: Lines | None = None
    orders: list[str] = field(default_factory=list)
    speeds: list[str] = field(default_factory=list)
    claims: Lines | None = None
    slips: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    every: str = ""
    images: list[Image] = field(default_factory=list)
    figure: str = ""
    analogue: AnalogueView | None = None
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Share:
    """A status in the summary's bar."""

    status: str
    sign: str
    cells: int
    percent: float
    meaning: str


@dataclass(frozen=True)
class ProtocolView:
    """How a paper evaluated, and what of it is done here; `prompt` has `{text}` for a question."""

    name: str
    title: str
    digest: str
    words: str
    prompt: str
    items: Lines


@dataclass(frozen=True)
class PaperView:
    """A page."""

    name: str
    title: str
    facts: list[tuple[str, str]]
    protocols: list[ProtocolView]
    summary: list[str]
    shares: list[Share]
    results: Lines | None
    tables: list[TableView]
    prompts: list[tuple[str, str]]
    runs: Lines | None
    remarks: list[str]
    made_by: str
