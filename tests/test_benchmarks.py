"""The benchmark scripts: naive references and our operators agree, and the page of results says
what was measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benches import SMALL, shape

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
    words = [f"model={shape(tmp_path / 'shape')}", *SMALL]
    assert main(["bench", "strategy=dycoke,fastv+dytok", *words, f"out={tmp_path / 'out'}"]) == 0
    (tmp_path / "out" / "bench.json").rename(tmp_path / "cpu_llm.json")
    (tmp_path / "startup.txt").write_text("as quick as ever\n")
    monkeypatch.setattr(efficiency, "FOLDER", tmp_path)
    lines = list(efficiency.page())
    tables = [line for line in lines if line.startswith("|")]
    systems, strategies = tables[:9], tables[9:]
    # made-up features have no tower, and so no floor of one
    assert {line.count("|") for line in systems} == {14} and {
        line.count("|") for line in strategies
    } == {17}
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


def test_a_version_stands_beside_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    gpu = __import__("gpu")
    old = json.loads((gpu_folder() / "gpu-dycoke" / "bench.json").read_text())
    (tmp_path / "before-dycoke.json").write_text(json.dumps(old))
    assert list(gpu.changes(tmp_path)) == [], "nothing came after it"
    new = gpu.current(old)
    assert gpu.current(new) is new, "what has its names of today stays"
    new["environment"]["device_name"] = "H200"
    for line in ("vanilla", "oracle", "random", "strategy"):
        new["rows"][0][line] |= {"strategy_ms": 3.25, "prefill_over_floor": 1.5}
    (tmp_path / "after-dycoke.json").write_text(json.dumps(new))
    told = "\n".join(gpu.changes(tmp_path))
    assert "dycoke (32 frames, batch 1, 2 new tokens)" in told and "H200, torch 2.11.0" in told
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| dycoke")]
    row, ratios = rows
    assert row[1] == "5.9 → 3.2" and row[3] == "78.5 → 78.5" and row[7] == "1.50"
    assert ratios[1:3] == ["3.4 → 3.4", "0.99 → 0.99"]
    assert list(gpu.alone(tmp_path)) == [], "each has its other"
    (tmp_path / "before-dycoke.json").unlink()
    assert list(gpu.changes(tmp_path)) == [], "nothing came before it"
    [(title, result, chart)] = gpu.alone(tmp_path)
    assert "after this work" in title
    assert result == new
    assert chart.endswith("/after-dycoke.png")


def test_figures_of_an_earlier_gpu_keep_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    gpu = __import__("gpu")
    found = {title: result for title, result, _ in gpu.earlier(gpu_folder())}
    assert len(found) == 3 and all("before this work" in title for title in found)
    (dytok,) = (result for title, result in found.items() if "quarter" in title)
    guided, zipped = dytok["rows"]
    assert (guided["spec"], zipped["spec"]) == ("dytok+visionzip", "visionzip")
    assert guided["strategy"]["layer_average_tokens"] == 1568
    over = guided["strategy"]["exact_prefill_flops"] / guided["vanilla"]["exact_prefill_flops"]
    assert guided["ratios"]["exact_prefill_over_vanilla"] == pytest.approx(over)
    assert guided["ratios"]["ttft_speedup"] < 1 < zipped["ratios"]["ttft_speedup"]
    page = (gpu_folder().parent / "efficiency.md").read_text()
    assert page.count("Taken on 2026-11-27 with revision 3cf17da") == 3
    assert page.count("before the work on own time") == 3


def gpu_folder() -> Path:
    return BENCHMARKS.parent / "docs" / "results" / "efficiency"


def test_the_committed_page_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    efficiency = __import__("efficiency")
    assert efficiency.PAGE.read_text() == "\n".join(efficiency.page()) + "\n", (
        "stale: benchmarks/efficiency.py --page"
    )
