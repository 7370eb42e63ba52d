"""Runs the benches of `docs/results/efficiency.md` and writes that page: `make efficiency`.

    python benchmarks/efficiency.py [--page]

It takes half an hour on two cores. On a machine with CUDA it runs those of LLaVA-OneVision-7B,
otherwise those of 0.5B on the CPU; what either has measured stays on the page until it is measured
again. `--page` only writes the page from what is there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gpu
from claims import bars, known, ratio_table

from tokenprune.bench.columns import FIGURES, OVER_FLOOR, SYSTEM, named
from tokenprune.bench.screen import system_lines
from tokenprune.results.table import markdown

PAGE = Path(__file__).parent.parent / "docs" / "results" / "efficiency.md"
FOLDER = PAGE.with_suffix("")
SMALL = "model=shape:llava-onevision-0.5b dtype=bfloat16 device=cpu repeats=3"
LARGE = "model=shape:llava-onevision-7b dtype=bfloat16 device=cuda repeats=10"


class Bench(NamedTuple):
    title: str
    words: str


CPU = {
    "cpu_llm": Bench(
        "0.5B on a CPU: the language model alone, 16 frames",
        f"strategy=dycoke,fastv,dytok+random {SMALL} vision=random frames=16 new_tokens=40",
    ),
    "cpu_tower": Bench(
        "0.5B on a CPU: methods that read the tower, 8 frames",
        f"strategy=visionzip,prumerge,dytok+visionzip {SMALL} frames=8 new_tokens=4",
    ),
}
GPU = {
    "gpu_32": Bench(
        "7B on a GPU, 32 frames",
        f"strategy=dycoke,fastv,visionzip,prumerge,dytok+visionzip {LARGE} frames=32 "
        "new_tokens=100",
    ),
    "gpu_64": Bench(
        "7B on a GPU, 64 frames",
        f"strategy=dycoke,fastv,visionzip,prumerge,dytok+visionzip {LARGE} frames=64 "
        "new_tokens=100",
    ),
    "gpu_batch": Bench(
        "7B on a GPU, 16 prompts of 64 frames: the cache is nearly half of what a step reads",
        "strategy=dycoke model=shape:llava-onevision-7b dtype=bfloat16 device=cuda repeats=3 "
        "vision=random frames=64 batch=16 new_tokens=32",
    ),
    "gpu_dycoke": Bench(
        "7B on a GPU, 32 frames, two new tokens, for DyCoke's headline (the paper: 1.54x, 34 to 24 "
        "GB)",
        f"strategy=dycoke {LARGE} frames=32 new_tokens=2 dycoke.merge=0.7",
    ),
    "gpu_dytok": Bench(
        "7B on a GPU, 32 frames, a quarter of the tokens, for DyToK's headline (the paper: 48.3 to "
        "11.3 ms, no probe)",
        f"strategy=dytok+visionzip,visionzip {LARGE} frames=32 new_tokens=2 keep=0.25",
    ),
}
SCRIPTS = {
    "decode": "Decoding with DyCoke's dynamic pruning, by length",
    "batches": "Ragged batches",
    "operators": "Operators against naive loops and against the memory",
    "startup": "Start-up",
}
SYSTEMS = (
    "layer_average_tokens",
    "vision_ms",
    "strategy_ms",
    "probe_ms",
    "prefill_ms",
    "ttft_ms",
    "decode_ms_per_token",
    "decode_cache_share",
    "peak_memory_bytes",
    "kv_bytes",
)


INTRODUCTION = """
Written by `make efficiency`. Random weights at the published size: speed and memory do not depend
on what a model has learnt. What the words mean: [docs/efficiency.md](../efficiency.md). Times are
medians in milliseconds; ratios are medians over turns, the dense oracle and the full model being
measured in the same turn. Bars are in the headings; a figure in bold misses its own. Speed-ups
include strategy and probe. A model that guides itself runs the whole prompt as DyToK's probe: its
peak is the full model's without the cache. Where the tower runs, it may set the peak of every
system: the bar on memory then says that nothing of a strategy rises above it. Decoding is
compared where at least 16 tokens were made. A floor is what the device could do at best, measured
in the same run; sections without it are older.
"""


def run() -> None:
    """Every bench of this machine, one after the other, and the scripts.

    Keeps JSON, chart and output. Nothing is written into the checkout before the end, so that all
    figures belong to the same commit.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        try:
            for name, bench in (GPU if torch.cuda.is_available() else CPU).items():
                words = [*bench.words.split(), f"out={out / name}"]
                subprocess.run([sys.executable, "-m", "tokenprune", "bench", *words], check=True)
                written = (out / name / "bench.json").read_text(encoding="utf-8")
                (out / f"{name}.json").write_text(
                    written.replace(f"out={out}/", "out="), encoding="utf-8"
                )
                shutil.move(out / name / "bench.png", out / f"{name}.png")
            for name in () if torch.cuda.is_available() else SCRIPTS:
                script = Path(__file__).with_name(f"{name}.py")
                done = subprocess.run(
                    [sys.executable, script], check=True, stdout=subprocess.PIPE, text=True
                )
                (out / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
        finally:
            FOLDER.mkdir(parents=True, exist_ok=True)
            for file in out.iterdir():
                if file.is_file():
                    shutil.move(file, FOLDER / file.name)


def page() -> Iterator[str]:
    yield "# Efficiency, measured"
    yield ""
    yield " ".join(INTRODUCTION.split())
    for name, bench in {**CPU, **GPU}.items():
        file = FOLDER / f"{name}.json"
        if file.exists():
            yield from section(
                bench.title,
                json.loads(file.read_text(encoding="utf-8")),
                f"{FOLDER.name}/{name}.png",
            )
    changes = list(gpu.changes(FOLDER))
    yield from changes
    for title, result, chart in gpu.alone(FOLDER):
        revision = (result["environment"]["git_revision"] or "unknown")[:7]
        yield from section(title, result, chart, f"Revision {revision}, in the same call.")
    yield from gpu.notes(FOLDER, gpu.NOW)
    if not changes and not any((FOLDER / f"{name}.json").exists() for name in GPU):
        yield ""
        yield (
            "No GPU was at hand when this page was written. `make efficiency` on a machine with "
            "CUDA adds the benches of the 7B model at 32 and 64 frames, DyCoke's and DyToK's "
            "headlines; until then the only figures of a GPU are those that were taken earlier."
        )
    for title, result, chart in gpu.earlier(FOLDER):
        yield from section(title, result, chart, gpu.TAKEN)
    yield from gpu.notes(FOLDER)
    for name, title in SCRIPTS.items():
        file = FOLDER / f"{name}.txt"
        if file.exists():
            yield from ("", f"## {title}", "", f"`python benchmarks/{name}.py`", "", "```text")
            yield from file.read_text(encoding="utf-8").splitlines()
            yield "```"


def section(title: str, result: dict[str, Any], chart: str, note: str = "") -> Iterator[str]:
    """One bench: its command, its systems, its ratios; `note` stands above them."""
    where, rows = result["environment"], result["rows"]
    versions = where["versions"]
    yield from ("", f"## {title}", "")
    yield (
        f"{where['device_name']}, {where['threads']} threads, torch {versions['torch']}, "
        f"transformers {versions['transformers']}, {where['dtype']}."
    )
    if note:
        yield from ("", note)
    yield from ("", "```sh", where["command"], "```", "")
    systems = list(system_lines(rows))
    shown = [one for one in (*named(FIGURES, SYSTEMS), *OVER_FLOOR) if known(one, systems)]
    yield from markdown(systems, [SYSTEM, *shown]).splitlines()
    yield ""
    yield from ratio_table(rows, bars(where["device"]), where["new_tokens"]).splitlines()
    yield ""
    yield f"Strategy's own time over {where['repeats']} turns, ms: {', '.join(spreads(rows))}."
    for row in rows:
        if (changes := row["strategy"]["decode_selection_changes"]) is not None:
            yield ""
            yield (
                f"{row['spec']} changed its selection in {changes} of "
                f"{where['new_tokens'] - 1} decoding steps. "
                "Random weights attend almost evenly and hold a selection longer than trained "
                "ones: *Decoding* below has what a change at every step costs."
            )
    yield from ("", f"![Where the time goes]({chart})")


def spreads(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        low, high = row["strategy"]["spread"]["strategy_ms"]
        yield f"{row['spec']} {low:.1f} to {high:.1f}"


def main() -> None:
    if "--page" not in sys.argv[1:]:
        run()
    PAGE.write_text("\n".join(page()) + "\n", encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
