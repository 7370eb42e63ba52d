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

from tokenprune.tasks.questions import HARD, SHORT

Row = dict[str, float]
_SMOOTH = 15  # logged steps


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
    """One line per logged step; accuracies are on held-out training videos, `FRAMES/CATEGORY`."""
    names = ["step", *sorted({name for row in rows for name in row} - {"step"})]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def smooth(values: list[float]) -> list[float]:
    """Running means: steps differ in length of the videos and in the tokens that stay."""
    spans = [values[max(0, end - _SMOOTH) : end] for end in range(1, len(values) + 1)]
    return [sum(span) / len(span) for span in spans]


def draw(rows: list[Row], name: str, file: Path) -> None:
    """Losses above, accuracy per category at 16 frames below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 6.5), sharex=True, height_ratios=[1, 1.6]
    )
    for loss in ("answers", "alignment", "course"):
        logged = [row for row in rows if loss in row]
        steps = [row["step"] for row in logged]
        above.plot(steps, smooth([row[loss] for row in logged]), lw=0.9, label=loss)
    checks = [row for row in rows if any(key.startswith("16/") for key in row)]
    steps = [row["step"] for row in checks]
    categories = [
        key for key in dict.fromkeys(key for row in checks for key in row) if "16/" in key
    ]
    below.set_prop_cycle(color=[plt.colormaps["tab20"](n) for n in range(20)])
    for category in categories:
        below.plot(steps, [row.get(category) for row in checks], lw=1.2, label=category[3:])
    above.set(ylabel=f"loss, mean of {_SMOOTH}", yscale="log", title=f"{name}: training")
    below.set(xlabel="step", ylabel="accuracy, 16 frames, averaged weights", ylim=(0, 1.02))
    for axis, columns in ((above, 1), (below, 3)):
        axis.grid(alpha=0.25)
        axis.legend(ncols=columns, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=75)


def table(scores: dict, one: dict, question: dict) -> str:
    """Markdown: one line per category, and the means of the short and of the hard ones."""
    head = (
        "| category | score | 95 % interval | n | chance | question only | one frame "
        "|\n|--|--|--|--|--|--|--|\n"
    )
    families = scores["families"]
    lines = [
        _line(name, row, question["families"][name], one["families"][name])
        for name, row in families.items()
    ]
    for title, group, key in (("macro, short", SHORT, "macro"), ("macro, hard", HARD, "hard")):
        values = [100 * part[key] for part in (scores, question, one)]
        chance = 100 * sum(families[name]["chance"] for name in group) / len(group)
        total = sum(families[name]["n"] for name in group)
        lines.append(
            f"| **{title}** | **{values[0]:.1f}** | | {total} | {chance:.1f} | {values[1]:.1f} "
            f"| {values[2]:.1f} |"
        )
    return head + "\n".join(lines)


def _line(name: str, row: dict, question: dict, one: dict) -> str:
    chance = "" if row["chance"] is None else f"{100 * row['chance']:.1f}"
    return (
        f"| {name} | {100 * row['score']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f} "
        f"| {row['n']} | {chance} | {100 * question['score']:.1f} | {100 * one['score']:.1f} |"
    )


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


def card(name: str, folder: Path, results: dict[str, dict], notes: dict, recipe: dict) -> str:
    """The model card; `recipe` is what the training has written about itself."""
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
            f"{100 * row['macro']:.1f} at {frames} frames ({row['samples']} samples; hard "
            f"{100 * row['hard']:.1f}, describe {100 * row['families']['describe']['score']:.1f})"
            for frames, row in sorted(lengths.items())
        )
        or "not measured",
        "seen": ", ".join(recipe["shares"]),
        "drop": f"{100 * recipe['drop']:.0f}",
        "tower_learns": _tower(recipe["tower"]),
        **{key: scores[key] for key in ("samples", "frames", "seed")},
        **notes,
    }
    return (Path(__file__).parent / "card.md").read_text().format(**words)


def _tower(rate: float) -> str:
    return f"the tower learns at {rate} of the others' rate" if rate else "the tower rests"


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
    recipe = json.loads((options.runs[-1] / "recipe.json").read_text())
    (models / "README.md").write_text(card(options.name, models, results, notes, recipe))
    (kept / "scores.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
