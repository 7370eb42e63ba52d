"""Two finished runs side by side: `tokenprune compare runs/a runs/b`, paired by sample."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.errors import ConfigError
from tokenprune.results.differences import apart
from tokenprune.results.statistics import Paired, Resamples, mean
from tokenprune.results.wording import points, probability, verdict, within

_EXAMPLE = "tokenprune compare runs/a runs/b"
_SAME = ("task", "model", "assistant", "frames")  # what two runs usually share
_WHOLE = "macro"  # the row of the macro average
_TOKENS = {
    "input_ratio": "LLM input tokens",
    "layer_average_ratio": "layer avg tokens",
    "decode_ratio": "decode tokens",
    "flops_ratio": "FLOPs prefill",
}


@dataclass(frozen=True)
class Words:
    """What `tokenprune compare` was told."""

    folders: tuple[Path, Path]
    out: Path | None = None


@dataclass(frozen=True)
class Row:
    """One category, or all of them, over the samples that both runs answered."""

    category: str
    samples: int
    first: float
    second: float
    change: Paired  # of the second over the first


@dataclass(frozen=True)
class Comparison:
    """Two runs on the samples they share."""

    folders: tuple[Path, Path]
    labels: tuple[str, str]
    samples: int  # that both answered
    rows: tuple[Row, ...]  # by category, the macro average last; none where nobody knows an answer
    # tokens and FLOPs, fractions of the full model's
    ratios: dict[str, tuple[float | None, float | None]]
    warnings: tuple[str, ...]
    written: Path | None = None


def parse(words: Sequence[str]) -> Words:
    """Two folders, and `out=FILE`. Raises ConfigError."""
    folders, out = [], None
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.lstrip("-") == "out" and value and not word.startswith("-"):
            out = Path(value).expanduser()
        elif word.startswith("-") or (equals and not Path(word).expanduser().exists()):
            raise ConfigError(
                f"{word!r} means nothing here: write two folders of runs, and out=FILE.csv for a "
                "table"
            )
        else:
            folders.append(Path(word).expanduser())
    if len(folders) != 2:
        raise ConfigError(
            f"two runs are compared, not {len(folders)}: write two folders, as in `{_EXAMPLE}`"
        )
    if out is not None and out.suffix not in (".csv", ".json"):
        raise ConfigError(
            f"out={out} is no kind of table that is known: write out=FILE.csv or out=FILE.json"
        )
    if out is not None and out.exists():
        raise ConfigError(f"out={out} exists already: write another name, or remove it")
    return Words((folders[0], folders[1]), out)


def compare(words: Sequence[str]) -> Comparison:
    """The table of two runs, also as a file if `out=` names one. Raises ConfigError, OSError."""
    told = parse(words)
    summaries, records = zip(*(_read(folder) for folder in told.folders), strict=True)
    shared = [
        name
        for name, record in records[0].items()
        if name in records[1] and _same(record, records[1][name])
    ]
    if not shared:
        tasks = " and ".join(
            str(summary.get("task") or summary.get("video")) for summary in summaries
        )
        raise ConfigError(
            f"{told.folders[0]} and {told.folders[1]} share no sample (they ran on {tasks}): "
            "compare runs with the same task=, samples=, frames= and seed="
        )
    first, second = ([run[name] for name in shared] for run in records)
    answered = [(a, b) for a, b in zip(first, second, strict=True) if not (_error(a) or _error(b))]
    ratios = {
        name: (
            mean(_ratio(a, name) for a, _ in answered),
            mean(_ratio(b, name) for _, b in answered),
        )
        for name in _TOKENS
    }
    labels = (
        str(summaries[0]["systems"]["own"]["label"]),
        str(summaries[1]["systems"]["own"]["label"]),
    )
    warnings = [
        *_differences(summaries),
        *_missing(told.folders, records, len(shared), len(answered)),
    ]
    seeds = {summary.get("seed", 0) for summary in summaries}  # one: resampled here as it was there
    rows = _rows(answered, seeds.pop() if len(seeds) == 1 else 0)
    found = Comparison(told.folders, labels, len(answered), rows, ratios, tuple(warnings), told.out)
    if told.out is not None:
        told.out.parent.mkdir(parents=True, exist_ok=True)
        told.out.write_text(
            _csv(found) if told.out.suffix == ".csv" else _json(found), encoding="utf-8"
        )
    return found


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A run's summary, and its records by sample id."""
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}: write the folder of a finished run, as in `{_EXAMPLE}`"
        )
    files = summary, records = folder / "summary.json", folder / "records.jsonl"
    if not all(file.is_file() for file in files):
        if any(
            (folder / name).exists()
            for name in ("parts", "config.yaml", *(file.name for file in files))
        ):
            raise ConfigError(
                f"the run in {folder} is not finished: finish it with `tokenprune run "
                f"resume={folder}`"
            )
        raise ConfigError(
            f"{folder} is no run: write the folder of a finished run, as in `{_EXAMPLE}`"
        )
    lines = records.read_text(encoding="utf-8").splitlines()
    loaded = [_json_of(line, f"line {number} of {records}") for number, line in enumerate(lines, 1)]
    found = {str(record["id"]): record for record in loaded}
    if len(found) < len(loaded):
        raise ConfigError(
            f"{records} names a sample twice, so samples cannot be paired: run it again"
        )
    return _json_of(summary.read_text(encoding="utf-8"), str(summary)), found


def _json_of(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not ({"id", "own"} <= found.keys() or "systems" in found):
        raise ConfigError(f"{where} is damaged: run it again, or compare another run")
    return found


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two records with one id are of one sample."""
    return all(
        first.get(key) == second.get(key) for key in ("category", "question", "options", "answer")
    )


def _error(record: Mapping[str, Any]) -> str | None:
    return record["own"].get("error")


def _differences(summaries: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for key in _SAME:
        first, second = (summary.get(key) for summary in summaries)
        if first != second:
            yield f"{key} differs: {first} and {second}; the difference is not the strategy's alone"
    yield from apart(*summaries)


def _missing(
    folders: Sequence[Path], records: Sequence[Mapping[str, Any]], shared: int, answered: int
) -> Iterable[str]:
    for folder, run in zip(folders, records, strict=True):
        if shared < len(run):
            yield (
                f"only {shared} of the {len(run)} samples of {folder} are in both runs; the "
                "others are left out"
            )
    if answered < shared:
        yield (
            f"{shared - answered} of {shared} shared samples could not be evaluated in one of "
            "the runs: left out"
        )


def _rows(
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], seed: int
) -> tuple[Row, ...]:
    scored = [
        (a, b) for a, b in pairs if a["own"]["score"] is not None and b["own"]["score"] is not None
    ]
    if not scored:
        return ()
    families = [str(a["category"]) for a, _ in scored]
    groups = np.array([a.get("group") or b.get("group") for a, b in scored], dtype=object)
    first, second = np.array(
        [[a["own"]["score"], b["own"]["score"]] for a, b in scored], dtype=float
    ).T.copy()
    member, rows = np.array(families), []
    for category in (*dict.fromkeys(families), _WHOLE):
        inside = np.full(len(member), True) if category is _WHOLE else member == category
        drawn = Resamples(member[inside].tolist(), seed=seed, groups=groups[inside].tolist())
        a, b = first[inside], second[inside]
        rows.append(Row(category, len(a), drawn.average(a), drawn.average(b), drawn.paired(b, a)))
    return tuple(rows)


def _ratio(record: Mapping[str, Any], name: str) -> float | None:
    own = record["own"]
    return own["flops_ratio"] if name == "flops_ratio" else own["tokens"].get(name)


def table(found: Comparison) -> RenderableType:
    """What `tokenprune compare` prints."""
    names = [
        f"{name}: {label} ({where})"
        for name, label, where in zip("AB", found.labels, found.folders, strict=True)
    ]
    parts: list[RenderableType] = [Text("\n".join(names), overflow="fold")]
    parts += [
        Text(f"warning: {warning}", style="yellow", overflow="fold") for warning in found.warnings
    ]
    if found.rows:
        scores = _grid("score", "n", "A", "B", "B - A", "[95 %]", "McNemar")
        for place, row in enumerate(found.rows, 2):
            p = "-" if row.change.mcnemar_p is None else probability(row.change.mcnemar_p)
            change = points(row.change.value), within(row.change.interval) or "-", p
            means = (f"{100 * mean:.1f}" for mean in (row.first, row.second))
            scores.add_row(
                Text(row.category),
                str(row.samples),
                *means,
                *change,
                end_section=place == len(found.rows),
            )
        parts.append(scores)
        parts.append(Text(f"B against A: {verdict(found.rows[-1].change, 'A')}.", overflow="fold"))
    else:
        parts.append(
            Text("No sample has a score: the right answers are not known.", overflow="fold")
        )
    ratios = _grid("of the full model", "A", "B")
    for name, heading in _TOKENS.items():
        ratios.add_row(
            heading,
            *("-" if value is None else f"{100 * value:.1f} %" for value in found.ratios[name]),
        )
    parts.append(ratios)
    if found.written is not None:
        parts.append(Text(f"wrote {found.written}", overflow="fold"))
    return Group(*parts)


def _grid(first: str, *others: str) -> Table:
    grid = Table(box=SIMPLE_HEAD)
    grid.add_column(first, overflow="fold")
    for heading in others:
        grid.add_column(heading, justify="right", no_wrap=True)
    return grid


def _lines(found: Comparison) -> list[dict[str, Any]]:
    """The table as a file has it: fractions; scores first, then tokens and FLOPs."""
    lines: list[dict[str, Any]] = []
    for row in found.rows:
        low, high = row.change.interval or (None, None)
        change = {"difference": row.change.value, "low": low, "high": high}
        change |= {"p": row.change.p, "mcnemar_p": row.change.mcnemar_p}
        lines.append(
            {"row": row.category, "samples": row.samples, "a": row.first, "b": row.second, **change}
        )
    return lines + [
        {"row": name, "samples": found.samples, "a": a, "b": b}
        for name, (a, b) in found.ratios.items()
    ]


def _csv(found: Comparison) -> str:
    text = io.StringIO()
    columns: list[str] = ["row", "samples", "a", "b", "difference", "low", "high", "p", "mcnemar_p"]
    out = csv.DictWriter(text, columns, lineterminator="\n")
    out.writeheader()
    out.writerows(_lines(found))
    return text.getvalue()


def _json(found: Comparison) -> str:
    runs = zip(("a", "b"), found.folders, found.labels, strict=True)
    named = {name: {"folder": str(folder), "label": label} for name, folder, label in runs}
    return (
        json.dumps(
            {**named, "warnings": found.warnings, "table": _lines(found)}, indent=2, allow_nan=False
        )
        + "\n"
    )
