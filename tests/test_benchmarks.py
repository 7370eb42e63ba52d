"""The benchmark scripts: naive references and our operators agree, and the page of results says
what was measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from models import llava_onevision

from tokenprune.cli.main import main

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_operators_equal_their_naive_and_their_careful_references(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    cases, operators = __import__("cases"), __import__("operators")
    monkeypatch.setattr(cases, "WIDTH", 24)
    names = set()
    for case in (*cases.copies(9, 49), *operators.everything(9, 49, 100)):
        for reference in case.references:
            case.check(reference(), case.ours())
        names.add(case.name)
    assert names >= set(operators.CLAIMS)


def test_the_page_of_results_is_made_of_what_a_bench_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    efficiency = __import__("efficiency")
    llava_onevision().config.save_pretrained(tmp_path / "shape")
    words = [
        f"model=shape:{tmp_path / 'shape'}",
        "vision=random",
        "frames=4",
        "text=8",
        "new_tokens=4",
        "repeats=1",
    ]
    assert main(["bench", "strategy=dycoke,fastv+dytok", *words, f"out={tmp_path / 'out'}"]) == 0
    (tmp_path / "out" / "bench.json").rename(tmp_path / "cpu_llm.json")
    (tmp_path / "startup.txt").write_text("as quick as ever\n")
    monkeypatch.setattr(efficiency, "FOLDER", tmp_path)
    lines = list(efficiency.page())
    tables = [line for line in lines if line.startswith("|")]
    systems, strategies = tables[:9], tables[9:]
    assert {line.count("|") for line in systems} == {11} and {
        line.count("|") for line in strategies
    } == {15}
    assert [line.split(" | ")[0] for line in strategies[2:]] == ["| dycoke", "| fastv+dytok"]
    assert "| full model | 36 | 0.0 | 0.0 | 0.0 |" in systems[2]
    assert any(
        line.startswith("dycoke changed its selection in") and "of 3 decoding steps" in line
        for line in lines
    )
    assert any("No GPU was at hand" in line for line in lines)
    assert all(line.split(" | ")[4:6] == ["-", "-"] for line in strategies[2:]), (
        "four tokens compare nothing"
    )
    result = json.loads((tmp_path / "cpu_llm.json").read_text())
    result["environment"]["new_tokens"], result["rows"][0]["ratios"]["decode_over_vanilla"] = (
        40,
        1.04,
    )
    (tmp_path / "cpu_llm.json").write_text(json.dumps(result))
    assert any(" | **1.040** | " in line for line in efficiency.page()), (
        "what misses its bar is seen"
    )
    assert "as quick as ever" in lines and "![Where the time goes]" in "".join(lines)
    assert not any("cpu_tower" in line for line in lines), (
        "what was not measured is not on the page"
    )


def test_the_committed_page_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    efficiency = __import__("efficiency")
    assert efficiency.PAGE.read_text() == "\n".join(efficiency.page()) + "\n", (
        "stale: benchmarks/efficiency.py --page"
    )
