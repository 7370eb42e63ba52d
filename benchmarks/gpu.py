"""What the page of results shows of GPUs besides the benches of `make efficiency`.

Figures that were taken earlier, on a machine that is not at hand, and a version of the code beside
the one before it, measured one after the other on the same card.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenprune.bench.columns import FIGURES, OVER_FLOOR, SYSTEM, named
from tokenprune.bench.ratios import RATIOS, SPEC
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
NOTES = "gpu-notes.txt"  # beside the earlier ones
NOW = "after-notes.txt"  # beside those of the version after
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
# what is shown before and after
CHANGED = ("strategy_ms", "probe_ms", "prefill_ms", "ttft_ms", "decode_ms_per_token")


CHANGED_RATIOS = (
    "strategy_over_vanilla_prefill",
    "llm_prefill_over_oracle",
    "prefill_speedup",
    "ttft_speedup",
    "decode_over_vanilla",
)


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


def notes(folder: Path, name: str = NOTES) -> Iterator[str]:
    """What else was measured there."""
    if (folder / name).exists():
        yield from ("", *(folder / name).read_text(encoding="utf-8").splitlines())


def changes(folder: Path) -> Iterator[str]:
    """Each bench of which both versions are there: `before-NAME.json` and `after-NAME.json`."""
    for after in sorted(folder.glob("after-*.json")):
        before = after.with_name(after.name.replace("after-", "before-", 1))
        if before.exists():
            yield from change(current(_read(before)), current(_read(after)))


def alone(folder: Path) -> Iterator[tuple[str, Result, str]]:
    """Titles, results and charts of benches of which one of the two versions is there."""
    for version, other in (("after", "before"), ("before", "after")):
        for file in sorted(folder.glob(f"{version}-*.json")):
            if not file.with_name(file.name.replace(version, other, 1)).exists():
                result = current(_read(file))
                where = result["environment"]
                asked = f"{where['frames']} frames, batch {where['batch']}"
                name = file.stem.removeprefix(f"{version}-")
                title = f"7B on a GPU {version} this work, {asked}: {name}"
                yield title, result, f"{folder.name}/{file.stem}.png"


def change(before: Result, after: Result) -> Iterator[str]:
    """A bench of two versions of the code on one machine: times then and now, floors of now."""
    there, here = before["environment"], after["environment"]
    specs = ", ".join(row["spec"] for row in after["rows"])
    asked = f"{here['frames']} frames, batch {here['batch']}, {here['new_tokens']} new tokens"
    yield from ("", f"## Before and after, in one call: {specs} ({asked})", "")
    yield (
        f"{here['device_name']}, torch {here['versions']['torch']}, transformers "
        f"{here['versions']['transformers']}, {here['dtype']}; medians of {here['repeats']} turns. "
        f"Revisions {_revision(there)} and {_revision(here)}. Floors are of the later one."
    )
    yield from ("", "```sh", here["command"], "```", "")
    times, ratios = named(FIGURES, CHANGED), named(RATIOS, CHANGED_RATIOS)
    then, now = _both(before, after)
    systems = zip(system_lines(then), system_lines(now), strict=True)
    lines = [{**new, **_arrows(old, new, times)} for old, new in systems]
    yield from markdown(lines, [SYSTEM, *_heads(times), *OVER_FLOOR]).splitlines()
    yield ""
    rows = zip(then, now, strict=True)
    lines = [
        {"spec": new["spec"], **_arrows(old["ratios"], new["ratios"], ratios)} for old, new in rows
    ]
    yield from markdown(lines, [SPEC, *_heads(ratios)]).splitlines()


def _both(before: Result, after: Result) -> tuple[list[Result], list[Result]]:
    """The rows of the strategies that both measured, in the order of the later one."""
    found = {row["spec"]: row for row in before["rows"]}
    now = [row for row in after["rows"] if row["spec"] in found]
    return [found[row["spec"]] for row in now], now


def _heads(columns: Sequence[Column]) -> list[Column]:
    """Columns whose cells say what was and what is."""
    arrow = "before → after"
    return [Column(one.name, f"{one.title(())}, {arrow}", "", str) for one in columns]


def _arrows(old: Result, new: Result, columns: Sequence[Column]) -> dict[str, str]:
    return {one.name: f"{one.text(old)} → {one.text(new)}" for one in columns}


def _revision(where: Mapping[str, Any]) -> str:
    return (where["git_revision"] or "unknown")[:7]


def _read(file: Path) -> Result:
    return json.loads(file.read_text(encoding="utf-8"))
