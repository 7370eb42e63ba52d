"""Turns a training into what the repository keeps: a CSV, a picture, the model and its card.

    python -m experiments.tiny.report RUN [RUN ...] --name tiny --scores DIR --notes notes.json

`DIR` holds what `evaluate` wrote: `all.json`, `one.json` (`--only 8`), `question.json`
(`--question-only`) and any number of `frames_N.json`. Several RUNs are pieces of one training, in
order.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

from safetensors import safe_open

Row = dict[str, float]


def history(runs: list[Path]) -> list[Row]:
    """All logged rows by step; where a resumed training repeats a step, the later row stands.

    Pieces follow another.
    """
    rows: list[Row] = []
    for run in runs:
        begin = rows[-1]["step"] + 1 if rows else 0
        rows += [{**row, "step": row["step"] + begin} for row in _piece(run)]
    return rows


def _piece(run: Path) -> list[Row]:
    rows: dict[tuple[float, bool], Row] = {}
    for log in sorted(
        (run / "logs").glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:])
    ):
        with log.open() as lines:
            for line in csv.DictReader(lines):
                row = {
                    name: round(float(value), 4)
                    for name, value in line.items()
                    if value and name != "epoch"
                }
                rows[row["step"], "alignment" in row] = row
    return [rows[key] for key in sorted(rows)]


def write_csv(rows: list[Row], file: Path) -> None:
    """One line per logged step; accuracies are on held-out training videos, `FRAMES/FAMILY`."""
    names = ["step", *sorted({name for row in rows for name in row} - {"step"})]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[Row], name: str, file: Path) -> None:
    """Losses above, accuracy per family at 16 frames below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 6.5), sharex=True, height_ratios=[1, 1.6]
    )
    losses = [row for row in rows if "alignment" in row]
    for name in ("answers", "alignment"):
        above.plot(
            [row["step"] for row in losses], [row.get(name) for row in losses], lw=0.8, label=name
        )
    starts = [
        row["step"]
        for last, row in zip([{}, *losses], losses, strict=False)
        if row["frames"] != last.get("frames")
    ]
    for axis in (above, below):
        for start in starts[1:]:
            axis.axvline(start, color="0.8", lw=0.8)
        axis.grid(alpha=0.25)
    above.set(
        ylabel="loss",
        yscale="log",
        title=f"{name}: training (grey lines: the number of frames changes)",
    )
    above.legend()
    checks = [row for row in rows if any(name.startswith("16/") for name in row)]
    for family in sorted({name for row in checks for name in row if name.startswith("16/")}):
        below.plot(
            [row["step"] for row in checks],
            [row.get(family) for row in checks],
            lw=1.2,
            label=family[3:],
        )
    below.set(xlabel="step", ylabel="accuracy, 16 frames, averaged weights", ylim=(0, 1.02))
    below.legend(ncols=2, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=75)


def table(scores: dict, one: dict, question: dict) -> str:
    """Markdown: one line per family."""
    head = (
        "| family | score | 95 % interval | n | chance | question only | one frame "
        "|\n|--|--|--|--|--|--|--|\n"
    )
    lines = [
        f"| {family} | {100 * row['score']:.1f} | {100 * row['low']:.1f} to "
        f"{100 * row['high']:.1f} | {row['n']} "
        f"| {'' if row['chance'] is None else format(100 * row['chance'], '.1f')} "
        f"| {100 * question['families'][family]['score']:.1f} | "
        f"{100 * one['families'][family]['score']:.1f} |"
        for family, row in scores["families"].items()
    ]
    known = [row["chance"] for row in scores["families"].values() if row["chance"] is not None]
    macro = [
        100 * value
        for value in (scores["macro"], sum(known) / len(known), question["macro"], one["macro"])
    ]
    total = sum(row["n"] for row in scores["families"].values() if row["chance"] is not None)
    last = (
        f"| **macro, short** | **{macro[0]:.1f}** | | {total} | {macro[1]:.1f} | {macro[2]:.1f} "
        f"| {macro[3]:.1f} |"
    )
    return head + "\n".join([*lines, last])


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


def card(name: str, folder: Path, results: dict[str, dict], notes: dict) -> str:
    """The model card."""
    config = json.loads((folder / "config.json").read_text())
    scores = results["all"]
    lengths = {row["frames"]: row for file, row in results.items() if file.startswith("frames_")}
    words = {
        "name": name,
        "parameters": f"{parameters(folder) / 1e6:.2f}",
        "megabytes": f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}",
        "size": config["vision_config"]["image_size"],
        "patch": config["vision_config"]["patch_size"],
        "tower": config["vision_config"]["num_hidden_layers"],
        "width": config["text_config"]["hidden_size"],
        "depth": config["text_config"]["num_hidden_layers"],
        "words": config["text_config"]["vocab_size"],
        "table": table(scores, results["one"], results["question"]),
        "lengths": "; ".join(
            f"{100 * row['macro']:.1f} at {frames} frames (describe "
            f"{100 * row['families']['describe']['score']:.1f})"
            for frames, row in sorted(lengths.items())
        ),
        **{key: scores[key] for key in ("samples", "frames", "seed")},
        **notes,
    }
    return (Path(__file__).parent / "card.md").read_text().format(**words)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--name", required=True, help="of the embedded model")
    parser.add_argument("--scores", type=Path, required=True, help="folder of evaluate's results")
    parser.add_argument(
        "--notes",
        type=Path,
        required=True,
        help="JSON: purpose, machine, hours, command, steps, limits",
    )
    options = parser.parse_args()
    models, kept = (
        Path("tokenprune/checkpoints") / options.name,
        Path("docs/results") / f"{options.name}_training",
    )
    kept.mkdir(parents=True, exist_ok=True)
    rows = history(options.runs)
    write_csv(rows, kept / "metrics.csv")
    draw(rows, options.name, kept / "curves.png")
    shutil.copytree(
        options.runs[-1] / "model", models, dirs_exist_ok=True, copy_function=shutil.copyfile
    )
    results = {
        file.stem: json.loads(file.read_text()) for file in sorted(options.scores.glob("*.json"))
    }
    notes = json.loads(options.notes.read_text())
    (models / "README.md").write_text(card(options.name, models, results, notes))
    (kept / "scores.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
