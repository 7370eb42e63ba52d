"""Turns a finished training into what the repository keeps: one CSV, one picture, the model and its card.

    python -m experiments.tiny.report RUN --scores scores.json --blind blind.json --models tokenprune/models/tiny \
        --results docs/results/tiny_training
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

from safetensors import safe_open

Row = dict[str, float]


def history(run: Path) -> list[Row]:
    """All logged rows by step; where a resumed training repeats a step, the later row stands."""
    rows: dict[tuple[float, bool], Row] = {}
    for log in sorted((run / "logs").glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:])):
        with log.open() as lines:
            for line in csv.DictReader(lines):
                row = {name: round(float(value), 4) for name, value in line.items() if value and name != "epoch"}
                rows[row["step"], "alignment" in row] = row
    return [rows[key] for key in sorted(rows)]


def write_csv(rows: list[Row], file: Path) -> None:
    """One line per logged step; accuracies are on held-out training videos, `FRAMES/FAMILY`."""
    names = ["step", *sorted({name for row in rows for name in row} - {"step"})]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[Row], file: Path) -> None:
    """Losses above, accuracy per family at 16 frames below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6.5), sharex=True, height_ratios=[1, 1.6])
    losses = [row for row in rows if "alignment" in row]
    for name in ("answers", "alignment"):
        above.plot([row["step"] for row in losses], [row.get(name) for row in losses], lw=0.8, label=name)
    starts = [
        row["step"] for last, row in zip([{}, *losses], losses, strict=False) if row["frames"] != last.get("frames")
    ]
    for axis in (above, below):
        for start in starts[1:]:
            axis.axvline(start, color="0.8", lw=0.8)
        axis.grid(alpha=0.25)
    above.set(ylabel="loss", yscale="log", title="tiny: training (grey lines: the number of frames changes)")
    above.legend()
    checks = [row for row in rows if any(name.startswith("16/") for name in row)]
    for name in sorted({name for row in checks for name in row if name.startswith("16/")}):
        below.plot([row["step"] for row in checks], [row.get(name) for row in checks], lw=1.2, label=name[3:])
    below.set(xlabel="step", ylabel="accuracy, 16 frames, averaged weights", ylim=(0, 1.02))
    below.legend(ncols=2, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=75)


def table(scores: dict, blind: dict) -> str:
    """Markdown: one line per family."""
    head = "| family | score | 95 % interval | n | chance | one frame |\n|--|--|--|--|--|--|\n"
    lines = [
        f"| {family} | {100 * row['score']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f} | {row['n']} "
        f"| {100 * row['chance']:.1f} | {100 * blind['families'][family]['score']:.1f} |"
        for family, row in scores["families"].items()
    ]
    chance = sum(row["chance"] for row in scores["families"].values()) / len(scores["families"])
    total = scores["samples"]
    macro = (
        f"| **macro** | **{100 * scores['macro']:.1f}** | | {total} | {100 * chance:.1f} | {100 * blind['macro']:.1f} |"
    )
    return head + "\n".join(lines) + "\n" + macro


def parameters(folder: Path) -> int:
    """Number of weights in the folder's safetensors."""
    count = 0
    with safe_open(str(folder / "model.safetensors"), "pt") as weights:
        for name in weights.keys():  # noqa: SIM118 (no mapping)
            size = 1
            for side in weights.get_slice(name).get_shape():
                size *= side
            count += size
    return count


def card(folder: Path, scores: dict, blind: dict, training: dict) -> str:
    """The model card."""
    words = {
        "parameters": f"{parameters(folder) / 1e6:.2f}",
        "megabytes": f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}",
        "table": table(scores, blind),
        "samples": scores["samples"],
        "frames": scores["frames"],
        "seed": scores["seed"],
        **training,
    }
    return (Path(__file__).parent / "card.md").read_text().format(**words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--scores", type=Path, required=True, help="evaluate.py's result")
    parser.add_argument("--blind", type=Path, required=True, help="the same with --only 8")
    parser.add_argument("--training", type=Path, required=True, help="JSON: command, steps, hours, machine")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    rows = history(options.run)
    write_csv(rows, options.results / "metrics.csv")
    draw(rows, options.results / "curves.png")
    shutil.copytree(options.run / "model", options.models, dirs_exist_ok=True, copy_function=shutil.copyfile)
    scores, blind, training = (json.loads(f.read_text()) for f in (options.scores, options.blind, options.training))
    (options.models / "README.md").write_text(card(options.models, scores, blind, training))
    shutil.copyfile(options.scores, options.results / "scores.json")


if __name__ == "__main__":
    main()
