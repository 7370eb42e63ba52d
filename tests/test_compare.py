"""`tokenprune compare`: two finished runs paired by sample, and what it refuses."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from tokenprune.errors import ConfigError
from tokenprune.evaluation.compare import Comparison, compare, parse, table


def run(
    folder: Path,
    right: Callable[[int], bool | float | None],
    samples: range = range(30),
    lost: tuple[int, ...] = (),
    ratio: float = 0.5,
    prefix: str = "s",
    **summary: Any,
) -> str:
    """Files as a finished run writes them: sample i is answered as `right` says, the first ten are
    a family.
    """
    lines = []
    for index in samples:
        score = None if index in lost or (found := right(index)) is None else float(found)
        tokens = {
            "full": 288,
            "input_ratio": ratio,
            "layer_average_ratio": ratio,
            "decode_ratio": None,
        }
        own = {
            "prediction": "red",
            "score": score,
            "tokens": tokens,
            "time": {},
            "flops_ratio": ratio / 2,
        }
        if index in lost:
            own = {
                "score": None,
                "tokens": {},
                "time": {},
                "flops_ratio": 0.0,
                "error": "torn file",
            }
        whose = {
            "index": index,
            "id": f"{prefix}{index}",
            "category": "few" if index < 10 else "many",
        }
        line = {
            **whose,
            "question": "What?",
            "prompt": "What?",
            "answer": "red",
            "own": {"error": None, **own},
        }
        lines.append(json.dumps({**line, "vanilla": line["own"], "random": line["own"]}))
    told = {"task": "tinyvqa", "video": None, "model": "tiny", "assistant": None, "frames": 8}
    label = {"own": {"label": folder.name}}
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "summary.json").write_text(json.dumps({**told, "systems": label, **summary}))
    (folder / "config.yaml").write_text("run: {}\n")
    return str(folder)


def shown(found: Comparison, width: int = 100) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(table(found))
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Right on every third sample, and on every second."""
    first = run(tmp_path / "fastv", lambda i: i % 3 == 0, ratio=0.25)
    return first, run(tmp_path / "dycoke", lambda i: i % 2 == 0)


def test_two_runs_side_by_side(two: tuple[str, str]) -> None:
    found = compare(two)
    few, _, macro = found.rows
    assert (found.labels, found.samples, found.warnings) == (("fastv", "dycoke"), 30, ())
    assert [(row.category, row.samples) for row in found.rows] == [
        ("few", 10),
        ("many", 20),
        ("macro", 30),
    ]
    assert (few.first, few.second) == pytest.approx(
        (0.4, 0.5)
    ) and few.change.value == pytest.approx(0.1)
    assert macro.first == pytest.approx((0.4 + 6 / 20) / 2) and macro.second == pytest.approx(0.5)
    assert macro.change.value == pytest.approx(macro.second - macro.first)
    better, worse = (sum(i % a == 0 and i % b != 0 for i in range(30)) for a, b in ((2, 3), (3, 2)))
    assert macro.change.mcnemar_p == pytest.approx(stats.binomtest(better, better + worse).pvalue)
    assert (
        macro.change.interval
        and macro.change.interval[0] < macro.change.value < macro.change.interval[1]
    )
    assert found.ratios["layer_average_ratio"] == (0.25, 0.5) and found.ratios["flops_ratio"] == (
        0.125,
        0.25,
    )
    assert found.ratios["decode_ratio"] == (None, None)
    assert compare(two) == found, "the same numbers every time"
    text, wide = shown(found), shown(found, 200)
    assert (
        text.startswith("A: fastv (")
        and "few 10 40.0 50.0 +10.0 [" in text
        and "macro 30 35.0 50.0 +15.0 [" in text
    )
    assert (
        "B against A: the interval does not tell them apart." in wide
        and "layer avg tokens 25.0 % 50.0 %" in text
    )
    assert "warning" not in text


def test_the_other_way_round_the_sign_turns(two: tuple[str, str]) -> None:
    there, back = (found.rows[-1].change for found in (compare(two), compare(two[::-1])))
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
    found = compare([run(tmp_path / f"{n}", lambda i: True, **told) for n, told in enumerate(made)])
    alone = "the difference is not the strategy's alone"
    assert found.warnings == ("the code differs: mine.py", f"torch differs: 2.11 and 2.12; {alone}")


def test_what_differs_is_said(tmp_path: Path, two: tuple[str, str]) -> None:
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


def test_graded_scores_have_no_mcnemar(tmp_path: Path, two: tuple[str, str]) -> None:
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


def test_the_table_as_a_file(tmp_path: Path, two: tuple[str, str]) -> None:
    where = tmp_path / "deep" / "table.csv"
    found = compare((*two, f"out={where}"))
    assert f"wrote {where}" in shown(found, 300)
    rows = list(csv.DictReader(where.read_text().splitlines()))
    assert [row["row"] for row in rows[:4]] == ["few", "many", "macro", "input_ratio"]
    assert float(rows[2]["difference"]) == pytest.approx(0.15) and float(
        rows[2]["low"]
    ) < 0 < float(rows[2]["high"])
    assert rows[3]["a"] == "0.25" and rows[3]["mcnemar_p"] == ""
    compare((*two, f"out={tmp_path / 'table.json'}"))
    read = json.loads((tmp_path / "table.json").read_text())
    assert read["a"] == {"folder": two[0], "label": "fastv"} and read["warnings"] == []
    assert read["table"][2]["mcnemar_p"] == found.rows[-1].change.mcnemar_p
    with pytest.raises(ConfigError, match="exists already"):
        compare((*two, f"out={where}"))


def refused(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compare(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_words_that_mean_nothing(two: tuple[str, str]) -> None:
    assert "two runs are compared, not 1: write two folders" in refused(two[0])
    assert "not 3" in refused(*two, two[0])
    assert "out=t.xlsx is no kind of table" in refused(*two, "out=t.xlsx")
    assert "'--out=t.csv' means nothing here" in refused(*two, "--out=t.csv")
    assert "'seed=3' means nothing here" in refused(*two, "seed=3")
    assert parse(["a", "b", "out=c.json"]).out == Path("c.json")


def test_folders_that_are_no_finished_runs(tmp_path: Path, two: tuple[str, str]) -> None:
    assert "there is no folder nowhere: write the folder of a finished run" in refused(
        two[0], "nowhere"
    )
    (tmp_path / "photos").mkdir()
    assert "photos is no run" in refused(str(tmp_path / "photos"), two[0])
    for name in ("parts", "config.yaml"):
        folder = tmp_path / f"cut-{name}"
        folder.mkdir()
        (folder / name).touch()
        said = refused(two[0], str(folder))
        assert (
            f"the run in {folder} is not finished: finish it with `tokenprune run resume={folder}`"
            in said
        )
    (Path(two[1]) / "summary.json").unlink()
    assert "is not finished" in refused(*two)


def test_runs_that_share_nothing(tmp_path: Path, two: tuple[str, str]) -> None:
    said = refused(two[0], run(tmp_path / "x", lambda i: True, prefix="t", task="mvbench"))
    assert (
        "share no sample (they ran on tinyvqa and mvbench): compare runs with the same task="
        in said
    )
    other = Path(two[1]) / "records.jsonl"
    other.write_text(other.read_text().replace('"answer": "red"', '"answer": "blue"'))
    assert "share no sample" in refused(*two), "an id alone does not make a sample the same"


@pytest.mark.parametrize("damage", ['{"id": "s1', "[]", "{}"])
def test_files_that_are_damaged(damage: str, two: tuple[str, str]) -> None:
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
    code = f"import sys, tokenprune.evaluation.compare; assert not {heavy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
