"""What the page of results shows of GPUs besides the benches of `make efficiency`.

Figures that were taken earlier, on a machine that is not at hand, and a version of the code beside
the one before it, measured one after the other on the same card.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenprune.bench.columns import OVER_FLOOR, SYSTEM
from tokenprune.bench.screen import system_lines
from tokenprune.results.column import Column
from tokenprune.results.table import markdown

Result = dict[str, Any]

# folders of the page's, and what was asked there
EARLIER = {
    "gpu-r32": "forty new tokens",
    "gpu-dycoke": "DyCoke alone, two new tokens",
    "gpu-dytok": "a quarter of the tokens, two new ones",
}
NOTES = "gpu-notes.txt"
TAKEN = (
    "Taken on 2026-11-27 with revision 3cf17da (one word of its video decoding changed, for PyAV "
    "19), before the work on own time, decoding, the guide and the tower that this page's floors "
    "belong to: they say what was then, and nothing about the code of today. No floor was measured."
)
LINES = {"full": "vanilla", "oracle": "oracle", "random": "random", "own": "strategy"}
COUNTS = {
    "papers": "papers_prefill_over_vanilla",
    "exact": "exact_prefill_over_vanilla",
    "measured": "prefill_over_vanilla",
}
# what is shown before and after, with what it is called
CHANGED = {
    "strategy_ms": "strategy ms",
    "probe_ms": "probe ms",
    "prefill_ms": "prefill ms",
    "ttft_ms": "TTFT ms",
    "decode_ms_per_token": "decode ms/token",
}


def current(result: Result) -> Result:
    """A result of 3cf17da by the names that results have now; a newer one as it is."""
    if "spec" in result["rows"][0]:
        return result
    where = {**result["environment"], "llm_frames": result["environment"]["frames"]}
    return {"environment": where, "rows": [_row(row) for row in result["rows"]]}


def _row(old: Mapping[str, Any]) -> Result:
    lines = {now: _figures(old[then]) for then, now in LINES.items()}
    ratios = {_ratio(name): value for name, value in old["ratios"].items()}
    ratios |= {COUNTS[name]: value for name, value in old["formula"].items()}
    return {"spec": old["strategy"], **lines, "ratios": ratios}


def _ratio(name: str) -> str:
    return name.replace("over_full", "over_vanilla")


def _figures(old: Mapping[str, Any]) -> Result:
    counted, kept = old["flops"], old["visual_tokens_per_layer"]
    figures = {name: value for name, value in old.items() if name != "flops"}
    return {
        **figures,
        "layer_average_tokens": statistics.fmean(kept),
        "papers_flops": counted["papers"],
        "papers_prefill_flops": counted["papers_prefill"],
        "exact_flops": counted["exact"]["total"],
        "exact_prefill_flops": counted["exact"]["llm_prefill"],
    }


def earlier(folder: Path) -> Iterator[tuple[str, Result, str]]:
    """Titles, results and charts of those that are there."""
    for name, asked in EARLIER.items():
        file = folder / name / "bench.json"
        if file.exists():
            title = f"7B on a GPU before this work, 32 frames: {asked}"
            yield title, current(_read(file)), f"{folder.name}/{name}/bench.png"


def notes(folder: Path) -> Iterator[str]:
    """What else was measured there."""
    if (folder / NOTES).exists():
        yield from ("", *(folder / NOTES).read_text(encoding="utf-8").splitlines())


def changes(folder: Path) -> Iterator[str]:
    """Each bench of which both versions are there: `before-NAME.json` and `after-NAME.json`."""
    for after in sorted(folder.glob("after-*.json")):
        before = after.with_name(after.name.replace("after-", "before-", 1))
        if before.exists():
            yield from change(current(_read(before)), current(_read(after)))


def change(before: Result, after: Result) -> Iterator[str]:
    """A bench of two versions of the code on one machine: times then and now, floors of now."""
    there, here = before["environment"], after["environment"]
    asked = f"batch {here['batch']}, {here['new_tokens']} new tokens"
    yield from ("", f"## Before and after, in one call: {here['frames']} frames, {asked}", "")
    yield (
        f"{here['device_name']}, torch {here['versions']['torch']}, transformers "
        f"{here['versions']['transformers']}, {here['dtype']}; medians of {here['repeats']} turns. "
        f"Revisions {_revision(there)} and {_revision(here)}. Floors are of the later one."
    )
    yield from ("", "```sh", here["command"], "```", "")
    yield from markdown(list(_changed(before, after)), [SYSTEM, *_columns(), *OVER_FLOOR]).split(
        "\n"
    )


def _columns() -> list[Column]:
    return [Column(name, f"{label}, before → after", "", str) for name, label in CHANGED.items()]


def _changed(before: Result, after: Result) -> Iterator[dict[str, Any]]:
    """The systems of both; a strategy that only one of them measured is left out."""
    both = {row["spec"] for row in before["rows"]} & {row["spec"] for row in after["rows"]}
    then, now = ([row for row in one["rows"] if row["spec"] in both] for one in (before, after))
    for old, new in zip(system_lines(then), system_lines(now), strict=True):
        pairs = {name: f"{old[name]:.1f} → {new[name]:.1f}" for name in CHANGED}
        yield {**new, **pairs}


def _revision(where: Mapping[str, Any]) -> str:
    return (where["git_revision"] or "unknown")[:7]


def _read(file: Path) -> Result:
    return json.loads(file.read_text(encoding="utf-8"))
