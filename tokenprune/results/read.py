"""Finished runs, read back: `tokenprune.read("runs/mine")`.

Everything that looks at a finished run goes through `read`: comparisons, reuse, studies, notebooks.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from tokenprune.dataframe import data_frame
from tokenprune.errors import ConfigError
from tokenprune.results import table, wording
from tokenprune.results.answer import ASKED, ROLES, Answer, subject_of
from tokenprune.results.column import Row
from tokenprune.results.columns import measured, shown
from tokenprune.results.files import CELLS, CONFIG, PARTS, RECORDS, SUMMARY
from tokenprune.results.notes import against_random, legend, remarks
from tokenprune.results.summary import Summary, SystemSummary
from tokenprune.results.wording import percent


class Tabular(ABC):
    """What can be had as a table of samples: a line per sample and system."""

    @abstractmethod
    def lines(self) -> Iterator[dict[str, Any]]:
        """See `docs/results-format.md` for what they hold."""

    @abstractmethod
    def _repr_html_(self) -> str:
        """The columns of results, a row per system."""

    def table(self) -> Any:
        """A `pyarrow.Table` of the lines. ImportError says what to install."""
        try:
            import pyarrow
        except ImportError:
            raise ImportError("tables need pyarrow: pip install pyarrow") from None
        return pyarrow.Table.from_pylist(list(self.lines()))

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` of the lines. ImportError says what to install."""
        return data_frame(self.lines())


@dataclass(frozen=True, repr=False)
class Run(Tabular):
    """A finished run."""

    folder: Path
    summary: Summary

    def __repr__(self) -> str:
        """Headline and scores; it names the folder without its place, which is nobody else's."""
        summary = self.summary
        title = f"{self.folder.name}: {summary.subject.label} on {summary.setting.model}"
        lines = [f"{title}, {summary.samples} samples"]
        lines += [f"  {_told(summary.systems[role])}" for role in self.roles]
        return "\n".join([*lines, *filter(None, (against_random(summary), summary.setting.note))])

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """One per sample, in the task's order; read when first asked for."""
        file = self.folder / RECORDS
        lines = file.read_text(encoding="utf-8").splitlines()
        found = [_loaded(line, f"line {place} of {file}") for place, line in enumerate(lines, 1)]
        for place, record in enumerate(found, 1):
            if not {*ASKED, *self.summary.systems} <= record.keys():
                raise _damaged(f"line {place} of {file}")
        return found

    @property
    def roles(self) -> list[str]:
        """The systems that answered."""
        return [role for role in ROLES if role in self.summary.systems]

    def answers(self, role: str | None = None) -> list[Answer]:
        """What one system answered, the run's subject by default, in the task's order."""
        chosen = role or subject_of(self.roles)
        return [_answer(record, chosen) for record in self.records]

    def lines(self) -> Iterator[dict[str, Any]]:
        for role in self.roles:
            label = self.summary.systems[role].label
            for answer in self.answers(role):
                yield {"run": self.folder.name, "role": role, "label": label, **_line(answer)}

    def _repr_html_(self) -> str:
        summary = self.summary
        rows = [summary.systems[role].as_dict() for role in self.roles]
        told = (against_random(summary), *remarks(summary), *legend(summary), summary.setting.note)
        return _drawn(f"{summary.subject.label} on {summary.setting.model}", rows, told)


@dataclass(frozen=True, repr=False)
class Runs(Tabular, Sequence[Run]):
    """The cells of a sweep or study."""

    folder: Path
    cells: tuple[Run, ...]

    def __repr__(self) -> str:
        lines = [f"{len(self.cells)} cells of {self.folder.name}"]
        for run in self.cells:
            subject = replace(run.summary.subject, label=run.folder.name)
            lines.append(f"  {_told(subject)}")
        notes = dict.fromkeys(run.summary.setting.note for run in self.cells)
        return "\n".join([*lines, *filter(None, notes)])

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, place: Any) -> Any:
        return self.cells[place]

    def lines(self) -> Iterator[dict[str, Any]]:
        for run in self.cells:
            yield from run.lines()

    def _repr_html_(self) -> str:
        rows = [{**run.summary.subject.as_dict(), "label": run.folder.name} for run in self.cells]
        notes = dict.fromkeys(run.summary.setting.note for run in self.cells)
        return _drawn(f"{len(rows)} cells of {self.folder.name}", rows, tuple(notes))


def _told(system: SystemSummary) -> str:
    """A system's score and what it kept, in one line."""
    kept = percent(system.measured.get("layer_average_ratio"))
    parts = [
        None if system.score is None else wording.score(system.score),
        f"{kept} % of visual tokens" if kept else None,
    ]
    return f"{system.label}: {', '.join(filter(None, parts)) or 'nothing known'}"


def _drawn(title: str, rows: Sequence[Row], told: Iterable[str | None]) -> str:
    """A table that a notebook draws, below what it is about and above what to know of it."""
    lines = "\n".join(f"<p>{escape(line)}</p>" for line in dict.fromkeys(told) if line)
    drawn = table.html(rows, shown(rows))
    return f"<div><b>{escape(title)}</b>\n<div style='overflow-x:auto'>{drawn}</div>\n{lines}</div>"


def read(folder: str | Path) -> Run | Runs:
    """A finished run; of a folder of a sweep or study its cells.

    Raises ConfigError where there is neither, and for files that are damaged.
    """
    folder = Path(folder).expanduser()
    cells = folder / CELLS
    if cells.is_dir() and not (folder / SUMMARY).exists():
        finished = sorted(file.parent for file in cells.glob(f"*/{SUMMARY}"))
        return Runs(folder, tuple(read_run(cell) for cell in finished))
    return read_run(folder)


def read_run(folder: Path) -> Run:
    """A finished run. ConfigError where there is none, or its summary is damaged."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: write the folder of a finished run")
    files = folder / SUMMARY, folder / RECORDS
    if not all(file.is_file() for file in files):
        if any((folder / name).exists() for name in (PARTS, CONFIG, RECORDS, SUMMARY)):
            raise ConfigError(
                f"the run in {folder} is not finished: finish it with "
                f"`tokenprune run resume={folder}`"
            )
        raise ConfigError(f"{folder} is not a run: write the folder of a finished run")
    where = str(files[0])
    found = _loaded(files[0].read_text(encoding="utf-8"), where)
    try:
        return Run(folder, Summary.from_dict(found))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _damaged(where) from None


def _loaded(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise _damaged(where) from None
    if not isinstance(found, dict):
        raise _damaged(where)
    return found


def _damaged(where: str) -> ConfigError:
    return ConfigError(f"{where} is damaged, or of another version: run it again")


def _answer(record: Mapping[str, Any], role: str) -> Answer:
    asked = {name: record[name] for name in ASKED}
    return Answer.from_dict({**asked, **record[role]})


def _line(answer: Answer) -> dict[str, Any]:
    """One answer in columns."""
    plain = ("index", "id", "category", "group", "question", "answer", "prediction", "score")
    line = {name: getattr(answer, name) for name in (*plain, "reading", "error")}
    for column in measured():
        assert column.of is not None
        line[column.name] = None if answer.error is not None else column.of(answer)
    return line
