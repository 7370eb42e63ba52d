"""`tokenprune compare`: two finished runs paired by sample, and what it refuses."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from tokenprune.cli.compare import CompareConfig, read
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.evaluation.compare import Comparison, compare
from tokenprune.evaluation.compare_screen import screen
from tokenprune.evaluation.compare_screen import write as write_table
from tokenprune.results.answer import Answer
from tokenprune.results.record import write
from tokenprune.results.summarise import summarise
from tokenprune.results.summary import Setting
from tokenprune.results.system import System


def run(
    folder: Path,
    right: Callable[[int], bool | float | None],
    samples: range = range(30),
    lost: tuple[int, ...] = (),
    ratio: float = 0.5,
    prefix: str = "s",
    code: dict[str, str] | None = None,
    environment: dict[str, Any] | None = None,
    **asked: Any,
) -> Path:
    """A finished run: sample i is answered as `right` says, the first ten are a category."""
    answers = []
    for index in samples:
        category = "few" if index < 10 else "many"
        bare = Answer(index, f"{prefix}{index}", category, "What?", "red")
        if index in lost:
            answers.append(replace(bare, error="torn file"))
            continue
        score = right(index)
        ratios = {"input_ratio": ratio, "layer_average_ratio": ratio, "decode_ratio": None}
        answers.append(
            replace(
                bare,
                prediction="red",
                score=None if score is None else float(score),
                tokens={"full": 288, **ratios},
                flops_ratio=ratio / 2,
            )
        )
    systems = [System("strategy", folder.name, None, answers)]
    setting = Setting(**{"task": "tinyvqa", "frames": 8, **asked})
    summary = replace(summarise(systems, setting), code=code or {}, environment=environment or {})
    folder.mkdir(parents=True)
    write(folder, summary, systems, {}, {}, {})
    return folder


def shown(found: Comparison, width: int = 100) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(screen(found))
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Right on every third sample, and on every second."""
    first = run(tmp_path / "fastv", lambda i: i % 3 == 0, ratio=0.25)
    return first, run(tmp_path / "dycoke", lambda i: i % 2 == 0)


def test_two_runs_side_by_side(two: tuple[Path, Path]) -> None:
    found = compare(two)
    few, _, whole = found.rows
    assert (found.labels, found.samples, found.warnings) == (("fastv", "dycoke"), 30, ())
    assert [(row.category, row.samples) for row in found.rows] == [
        ("few", 10),
        ("many", 20),
        ("all", 30),
    ]
    assert (few.first, few.second) == pytest.approx(
        (0.4, 0.5)
    ) and few.change.value == pytest.approx(0.1)
    assert whole.first == pytest.approx((0.4 + 6 / 20) / 2) and whole.second == pytest.approx(0.5)
    assert whole.change.value == pytest.approx(whole.second - whole.first)
    better, worse = (sum(i % a == 0 and i % b != 0 for i in range(30)) for a, b in ((2, 3), (3, 2)))
    assert whole.change.mcnemar_p == pytest.approx(stats.binomtest(better, better + worse).pvalue)
    assert (
        whole.change.interval
        and whole.change.interval[0] < whole.change.value < whole.change.interval[1]
    )
    assert found.ratios["layer_average_ratio"] == (0.25, 0.5) and found.ratios["flops_ratio"] == (
        0.125,
        0.25,
    )
    assert found.ratios["decode_ratio"] == (None, None)
    assert compare(two) == found, "the same numbers every time"
    text, wide = shown(found), shown(found, 200)
    assert (
        text.startswith("B against A: ")
        and "A: fastv (" in text
        and "few 10 40.0 50.0 +10.0 [" in text
        and "all 30 35.0 50.0 +15.0 [" in text
    )
    assert (
        "B against A: the interval does not tell them apart." in wide
        and "layer avg tokens 25.0 50.0" in text
    )
    assert "warning" not in text


def test_the_other_way_round_the_sign_turns(two: tuple[Path, Path]) -> None:
    there, back = (found.rows[-1].change for found in (compare(two), compare((two[1], two[0]))))
    assert there.value == -back.value and there.mcnemar_p == back.mcnemar_p
    assert there.interval and back.interval
    assert there.interval == pytest.approx([-back.interval[1], -back.interval[0]])
    same = compare((two[0], two[0]))
    assert all(row.change == (0.0, [0.0, 0.0], 1.0, 1.0, None) for row in same.rows)


def test_other_code_and_another_machine_are_said(tmp_path: Path) -> None:
    """Of the files that both runs have; a strategy of one of them is what is compared."""
    made = [
        {
            "code": {"mine.py": digest, "tokenprune/ops.py": "0", f"only_{digest}.py": digest},
            "environment": {
                "versions": {"torch": torch, "av": "18"},
                "command": digest,
                "dtype": "float32",
            },
        }
        for digest, torch in (("a", "2.11"), ("b", "2.12"))
    ]
    first, second = (run(tmp_path / f"{n}", lambda i: True, **made[n]) for n in range(2))
    found = compare((first, second))
    alone = "the difference is not the strategy's alone"
    assert found.warnings == ("the code differs: mine.py", f"torch differs: 2.11 and 2.12; {alone}")


def test_what_differs_is_said(tmp_path: Path, two: tuple[Path, Path]) -> None:
    other = run(tmp_path / "x", lambda i: True, range(5, 40), lost=(6, 7), model="7b", frames=16)
    found = compare((two[0], other))
    assert found.samples == 23 and [row.samples for row in found.rows] == [3, 20, 23]
    assert found.rows[-1].change.interval is None, "three of a family are too few"
    assert [warning.split(":")[0] for warning in found.warnings[:2]] == [
        "model differs",
        "frames differs",
    ]
    assert "tiny and 7b" in found.warnings[0] and "8 and 16" in found.warnings[1]
    assert (
        "only 25 of the 30 samples" in found.warnings[2]
        and "only 25 of the 35 samples" in found.warnings[3]
    )
    assert (
        "2 of 25 shared samples could not be evaluated" in found.warnings[4]
        and len(found.warnings) == 5
    )
    text = shown(found, 80)
    assert text.count("warning:") == 5 and "the samples give no interval to tell them apart" in text


def test_graded_scores_have_no_mcnemar(tmp_path: Path, two: tuple[Path, Path]) -> None:
    found = compare((two[0], run(tmp_path / "x", lambda i: i / 30 if i < 10 else True)))
    assert [row.change.mcnemar_p is None for row in found.rows] == [True, False, True]
    assert "above A" in shown(found)


@pytest.mark.parametrize(
    ("right", "lost"), [(lambda i: None, ()), (lambda i: True, tuple(range(30)))]
)
def test_runs_without_scores(
    tmp_path: Path, right: Callable[[int], bool], lost: tuple[int, ...]
) -> None:
    found = compare((run(tmp_path / "a", right, lost=lost), run(tmp_path / "b", right)))
    assert found.rows == () and "No sample has a score" in shown(found)
    assert found.ratios["input_ratio"] == ((None, None) if lost else (0.5, 0.5))


def test_the_table_as_a_file(tmp_path: Path, two: tuple[Path, Path]) -> None:
    where = tmp_path / "deep" / "table.csv"
    found = compare(two)
    write_table(found, where)
    rows = list(csv.DictReader(where.read_text().splitlines()))
    assert [row["row"] for row in rows[:4]] == ["few", "many", "all", "input_ratio"]
    assert float(rows[2]["difference"]) == pytest.approx(0.15)
    assert float(rows[2]["difference_low"]) < 0 < float(rows[2]["difference_high"])
    assert rows[3]["a"] == "0.25" and rows[3]["difference_mcnemar_p"] == ""
    write_table(found, tmp_path / "table.json")
    read = json.loads((tmp_path / "table.json").read_text())
    assert read["a"] == {"folder": str(two[0]), "label": "fastv"} and read["warnings"] == []
    assert read["table"][2]["difference_mcnemar_p"] == found.rows[-1].change.mcnemar_p
    assert f"out={where} exists already" in refused(*two, f"out={where}")


def test_the_command(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.csv"
    assert main(["compare", *map(str, two), f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert f"wrote {out}" in said and "B against A" in said and out.is_file()


def compared(*words: str | Path) -> Comparison:
    first, second = read([str(word) for word in words]).folders
    return compare((Path(first), Path(second)))


def refused(*words: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        compared(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_words_that_mean_nothing(two: tuple[Path, Path]) -> None:
    assert "two runs are compared, not 1: write two folders" in refused(two[0])
    assert "not 3" in refused(*two, two[0])
    assert "out=t.xlsx is not a kind of table" in refused(*two, "out=t.xlsx")
    assert "'--out=t.csv' is not KEY=VALUE: write out=t.csv" in refused(*two, "--out=t.csv")
    assert "unknown key 'seed'" in refused(*two, "seed=3")
    assert read(["a", "b", "out=c.json"]) == CompareConfig(["a", "b"], "c.json")


def test_folders_that_are_no_finished_runs(tmp_path: Path, two: tuple[Path, Path]) -> None:
    assert "there is no folder nowhere: write the folder of a finished run" in refused(
        two[0], "nowhere"
    )
    (tmp_path / "photos").mkdir()
    assert "photos is not a run" in refused(tmp_path / "photos", two[0])
    for name in ("parts", "config.yaml"):
        folder = tmp_path / f"cut-{name}"
        folder.mkdir()
        (folder / name).touch()
        said = refused(two[0], folder)
        assert (
            f"the run in {folder} is not finished: finish it with `tokenprune run resume={folder}`"
            in said
        )
    (Path(two[1]) / "summary.json").unlink()
    assert "is not finished" in refused(*two)


def test_runs_that_share_nothing(tmp_path: Path, two: tuple[Path, Path]) -> None:
    said = refused(two[0], run(tmp_path / "x", lambda i: True, prefix="t", task="mvbench"))
    assert (
        "share no sample (they ran on tinyvqa and mvbench): compare runs with the same task="
        in said
    )
    other = Path(two[1]) / "records.jsonl"
    other.write_text(other.read_text().replace('"answer": "red"', '"answer": "blue"'))
    assert "share no sample" in refused(*two), "an id alone does not make a sample the same"


@pytest.mark.parametrize("damage", ['{"id": "s1', "[]", "{}"])
def test_files_that_are_damaged(damage: str, two: tuple[Path, Path]) -> None:
    records, summary = (Path(two[1]) / name for name in ("records.jsonl", "summary.json"))
    whole = records.read_text()
    records.write_text(whole + damage + "\n")
    assert f"line 31 of {records} is damaged" in refused(*two)
    records.write_text(whole + whole.splitlines()[0] + "\n")
    assert "names a sample twice" in refused(*two)
    records.write_text(whole)
    summary.write_text(damage)
    assert f"{summary} is damaged" in refused(*two)


def test_comparing_loads_no_model() -> None:
    heavy = "{'torch', 'transformers', 'lightning'}"
    modules = "tokenprune.evaluation.compare, tokenprune.evaluation.compare_screen"
    code = f"import sys, {modules}; assert not {heavy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
