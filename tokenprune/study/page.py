"""The page of a study: what it found, in short and in full, tables, what ran. All is generated."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tokenprune import checkpoints
from tokenprune.study import page_tables, phrases
from tokenprune.study.config import StudyConfig, label_of
from tokenprune.study.findings import findings
from tokenprune.study.headline import summary
from tokenprune.study.results import CONTROL, Results

WIDTH = 80  # columns
_JOINED = "\0"  # a space at which no line ends
_EMBEDDED = (
    "The model is embedded in this package and was trained on this very benchmark: these are not "
    "the papers' results, and say little about large models."
)
_READING = (
    "*score*: mean over categories of their mean scores, in %.",
    f"*Δ random*: points above `{CONTROL}` at the same budget, paired by sample.",
    "In brackets: 95 % intervals over the choice of samples (bootstrap). A star marks a "
    "difference that holds after correction for the number of comparisons.",
)


def page(
    config: StudyConfig, results: Results, command: str, place: Mapping[str, Any], name: str
) -> str:
    """Markdown; the plots lie beside it as `name.png` and `name_categories.png`."""
    blocks = [
        f"# Retention on {config.task}",
        wrapped(" ".join(summary(results))),
        *_picture(results, f"score over visual tokens kept]({name}.png)"),
        *_embedded(config),
        "## Findings",
        listed(findings(results)),
        *_tables(results),
        *_categories(results, name),
        "## What ran",
        *_setting(config, results, command, place, name),
    ]
    return "\n\n".join(blocks) + "\n"


def wrapped(text: str, indent: str = "") -> str:
    """`text` in lines of at most WIDTH columns; those after the first begin with `indent`."""
    whole = text.replace(" %", f"{_JOINED}%")  # a number keeps its unit
    lines = textwrap.fill(
        whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace(_JOINED, " ")


def listed(sentences: Iterable[str]) -> str:
    """A point for each."""
    return "\n".join(wrapped(f"* {sentence}", "  ") for sentence in sentences)


def _picture(results: Results, link: str) -> list[str]:
    return [f"![{link}"] if results.budgets else []


def _embedded(config: StudyConfig) -> list[str]:
    return [wrapped(_EMBEDDED)] if config.model in checkpoints.names() else []


def _tables(results: Results) -> Iterator[str]:
    """One for each budget."""
    yield "## Tables"
    yield listed([*_READING, *page_tables.reading(results)])
    for tokens in results.budgets:
        share = phrases.percents(tokens / results.cells)
        yield f"### {share} % ({tokens} of {results.cells} tokens per frame)"
        yield page_tables.budget(results, tokens)


def _categories(results: Results, name: str) -> Iterator[str]:
    tokens = results.pictured
    if tokens is None:
        return
    yield f"## Categories at {phrases.percents(tokens / results.cells)} %"
    yield f"![score by category, less the full model's]({name}_categories.png)"
    widest = page_tables.widest(results, tokens)
    yield wrapped(
        f"Methods lie furthest apart in {'; '.join(widest)}. Single categories have few samples, "
        "and nothing is claimed of them."
    )


def _setting(
    config: StudyConfig, results: Results, command: str, place: Mapping[str, Any], name: str
) -> Iterator[str]:
    extent, names = results.vanilla.cell.extent, results.categories
    yield wrapped(f"Written by `{command}`; edits by hand are lost.")
    yield wrapped(
        f"Model `{config.model}` ({extent.depth} layers, {extent.cells} visual tokens per frame), "
        f"{_where(place)}. {results.samples} samples of `{config.task}` in {len(names)} "
        f"categories, {extent.frames} frames each, seed {config.seed}, greedy answers of at most "
        f"{config.max_new_tokens} tokens, {config.resamples:,} resamples. Options that are not "
        f"the default: {_options(config) or 'none'}."
    )
    yield wrapped(
        f"All cells with all categories, intervals, p, FLOPs: [{name}.csv]({name}.csv). How "
        "intervals and claims are made: `docs/statistics.md`."
    )


def _options(config: StudyConfig) -> str:
    """`fastv` has fastv.layer=1."""
    found = []
    for method in config.strategies:
        if method.options:
            options = ", ".join(f"{key}={value}" for key, value in method.options.items())
            found.append(f"`{label_of(method)}` has {options}")
    return "; ".join(found)


def _where(place: Mapping[str, Any]) -> str:
    """`bfloat16 on cpu, tokenprune 0.1.0, torch 2.13.0, transformers 5.23.0`."""
    names = ("tokenprune", "torch", "transformers")
    versions = ", ".join(f"{name} {place['versions'][name]}" for name in names)
    return f"{place['dtype']} on {place['device']}, {versions}"
