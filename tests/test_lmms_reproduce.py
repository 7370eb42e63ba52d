"""A whole table end to end over lmms-eval's tasks, offline, on the embedded model: jobs, what cells
then say, judges, answers that cannot be read, and videos that are not there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lmms_papers
import pytest
from lmms_papers import KILLED_AT, NUMBERS, local
from lmms_table import (
    COLUMNS,
    FASTV,
    FULL,
    GUESSING,
    JUDGE,
    OTHERS,
    PROTOCOLS,
    Place,
    reproduce,
    table,
)

from tokenprune.reproduce.cell import BLOCKED, DEVIATES, NOT_RUN, PARTIAL, REPRODUCED
from tokenprune.reproduce.protocol import FOLDER

if find_spec("lmms_eval") is None:
    pytest.skip(
        "lmms-eval is not installed: it has an environment of its own", allow_module_level=True
    )

# lmms-eval 0.7.3 leaves a subtitle file to the garbage collector (videomme/utils.py), November 2026
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module")
def place(protocol_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Both tables, reproduced without a judge."""
    root = tmp_path_factory.mktemp("lmms")
    short = {"mlvu": COLUMNS["mlvu"]}
    tables = {
        "table1": table("lmms-2024", COLUMNS),
        "table2": table("lmms-0.3.0", short),
    }
    protocols = {name: local(name) for name in PROTOCOLS.values()}
    papers = lmms_papers.write(root / "papers", tables, protocols)
    lmms_papers.write_tasks(protocol_home, papers / FOLDER / "tasks")
    with lmms_papers.at(protocol_home, papers):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tokenprune.evaluation.run.load", None)  # it loads nothing
            patch.setattr("tokenprune.tasks.lmms.benchmark.find", None)
            both = ("demo/table1", "demo/table2")
            plan = reproduce(*both, "plan=true", f"out={root / 'none'}")
        assert not (root / "none").exists()
        reproduce("demo/table2", "rows=Full", f"out={root / 'out'}")
        said = reproduce("demo/table1", f"out={root / 'out'}")
        yield Place(protocol_home, papers, root / "out", plan, said)


def test_what_each_benchmark_makes_of_answers(place: Place) -> None:
    for row, right in (("Full", FULL), ("FastV", FASTV)):
        mine = {name: place.found(row, name).value for name in right}
        assert mine == pytest.approx(right)


def test_statuses(place: Place) -> None:
    for name in FULL:
        assert place.cell("Full", name).status == REPRODUCED, name
        assert place.cell("Else", name).status == BLOCKED
    for name in FASTV:
        assert place.cell("FastV", name).status == DEVIATES, name
    for name in GUESSING:
        assert place.cell("Full", name).status in (REPRODUCED, DEVIATES)
    assert place.cell("Full", "anet").status == NOT_RUN
    assert place.cell("FastV", "anet").status == NOT_RUN
    assert place.cell("Full", "mlvu", "demo/table2").status == REPRODUCED


def test_one_run_fills_all_columns_that_it_can(place: Place) -> None:
    for names in (("vmme", "vmme_s", "vmme_m", "vmme_l"), ("mvb", "mvb_as")):
        assert len({place.found("FastV", name).folder for name in names}) == 1
    jobs = [folder.name for folder in (place.out / "jobs").iterdir()]
    assert len([name for name in jobs if "-fastv-" in name]) == 4
    # two protocols that ask alike share their runs
    assert len([name for name in jobs if "-none-" in name]) == len(NUMBERS) - 1
    other = place.cell("Full", "mlvu", "demo/table2").found
    assert other is not None and other.folder == place.found("Full", "mlvu").folder
    parts = [place.found("FastV", f"vmme_{part}") for part in "sml"]
    assert [(one.n, one.of) for one in parts] == [(1, 1), (2, 2), (1, 1)]
    assert place.found("FastV", "mvb_as").n == 4 and place.found("FastV", "mvb").n == 8


def test_answers_that_could_not_be_taken_as_they_stand_are_counted(place: Place) -> None:
    def counted(name: str) -> tuple[int | None, ...]:
        found = place.found("Full", name)
        return found.guessed, found.unparsed, found.empty, found.read_otherwise

    assert counted("vmme") == counted("vmme_w") == (0, 1, 1, 1)
    assert counted("vmme_m") == (0, 1, 0, 1)
    assert counted("mlvu") == (0, 1, 0, 1)
    assert counted("percep") == (0, 1, 1, None)
    assert counted("mvb") == (0, 0, 2, None)
    assert counted("lvb") == counted("ego") == (2, 0, 0, None)
    assert counted("nextqa") == (4, 0, 0, None)


def test_effects_are_paired(place: Place) -> None:
    found = place.found("FastV", "vmme")
    assert found.effect == pytest.approx(-25) and place.found("Full", "vmme").effect is None
    assert found.settings["short"] == "repeat" and found.settings["template"] == "qwen_1_5"
    assert "include_path" not in found.settings, "a place on this machine"


def _scores(records: list[dict[str, Any]], role: str) -> list[tuple[str, float, str]]:
    own = [record[role] for record in records]
    return [(one["prediction"], one["score"], one["reading"]) for one in own]


def test_a_guess_is_the_same_in_another_run(place: Place, tmp_path: Path) -> None:
    reproduce("demo/table1", "rows=Full", "columns=nextqa", f"out={tmp_path}")
    again = _scores(place.records("Full", "nextqa", tmp_path), "vanilla")
    assert again == _scores(place.records("Full", "nextqa"), "vanilla")
    assert [reading for *_, reading in again].count("guessed") == 4
    assert place.found("Full", "nextqa", tmp_path).value == place.found("Full", "nextqa").value


_DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import lmms_papers
from tokenprune.cli.main import main
with lmms_papers.at(Path({hub!r}), Path({papers!r})):
    sys.exit(main(sys.argv[1:]))
"""


def test_a_guess_is_the_same_after_kill_9(place: Place, tmp_path: Path) -> None:
    tests = str(Path(__file__).parent)
    driver = _DRIVER.format(tests=tests, hub=str(place.hub), papers=str(place.papers))
    words = ["demo/table1", "rows=FastV", "columns=nextqa", f"out={tmp_path}"]
    process = subprocess.run(
        [sys.executable, "-c", driver, "reproduce", "model.7B=tiny", "device=cpu", *words],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", KILLED_AT: "3"},
        text=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    (folder,) = tmp_path.glob("jobs/*")
    assert not (folder / "summary.json").exists()
    reproduce(*words)
    environment = json.loads((folder / "summary.json").read_text())["environment"]
    assert environment["earlier"], "the run was begun anew"
    for role in ("vanilla", "strategy"):
        mine, before = place.records("FastV", "nextqa", tmp_path), place.records("FastV", "nextqa")
        assert _scores(mine, role) == _scores(before, role)
    assert place.found("FastV", "nextqa", tmp_path).value == place.found("FastV", "nextqa").value


def test_fewer_samples_are_partial(place: Place, tmp_path: Path) -> None:
    words = ["demo/table1", "rows=Full", "columns=vmme,vmme_m", f"out={tmp_path}"]
    reproduce(*words, "limit=2")
    whole, part = (place.cell("Full", name, out=tmp_path) for name in ("vmme", "vmme_m"))
    assert (whole.status, whole.why) == (PARTIAL, "2 of 4 samples")
    assert (part.status, part.why) == (PARTIAL, "1 of 2 samples")
    reproduce(*words)
    assert place.cell("Full", "vmme", out=tmp_path).status == REPRODUCED, "all of them, later"


def test_a_video_that_is_not_there_is_an_error_and_counted(place: Place, tmp_path: Path) -> None:
    """NExT-QA's code raises where others leave the process."""
    video = place.hub / "nextqa" / "NExTVideo" / "103.mp4"
    aside = video.rename(video.with_suffix(".aside"))
    words = ["demo/table1", "rows=Full", "columns=nextqa", f"out={tmp_path}"]
    try:
        reproduce(*words)
    finally:
        aside.rename(video)
    cell = place.cell("Full", "nextqa", out=tmp_path)
    assert (cell.status, cell.why) == (PARTIAL, "1 of 8 samples failed")
    assert cell.found is not None and (cell.found.n, cell.found.errors) == (7, 1)


def test_a_public_servers_score_cannot_be_had(place: Place) -> None:
    cell = place.cell("Full", "ego_total")
    assert (cell.status, cell.why) == (NOT_RUN, "its answers are sent to a public server")
    assert "ego_total: its answers are sent to a public server" in place.said
    assert "columns=ego_total" not in place.said, "no command would fill it"


def test_a_plan_loads_nothing_and_tells_all(place: Place) -> None:
    full, fastv = len(COLUMNS) - 1, len({*FASTV, *OTHERS})
    compressed = {COLUMNS[name]["task"] for name in (*FASTV, *OTHERS)}
    jobs = len(NUMBERS) + len(compressed)
    samples = sum(NUMBERS.values()) + sum(NUMBERS[task] for task in compressed)
    calls = 3 * NUMBERS["activitynetqa"]  # of FastV and its control, and of the full model
    assert f"{jobs} jobs {full + fastv + 2} {samples} 0.0 {calls} " in place.plan
    assert "2 jobs: its answers are judged by a paid model: write judge=NAME" in place.plan


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A judge that says yes, but of "(A) or (B)" nothing; the models that it was asked as."""
    import time

    import requests  # pyright: ignore[reportMissingImports]

    asked: list[str] = []

    def post(url: str, *, json: dict[str, Any], **_: Any) -> Any:
        asked.append(json["model"])
        if "(A) or (B)" in str(json["messages"]):
            raise requests.exceptions.ConnectionError("nobody is there")
        return Reply(json["model"])

    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(requests, "post", post)
    return asked


class Reply:
    """That an answer is right."""

    def __init__(self, model: str) -> None:
        self.model = model

    def raise_for_status(self) -> None: ...

    def json(self) -> dict[str, Any]:
        verdict = "{'pred': 'yes', 'score': 4}"
        return {"choices": [{"message": {"content": verdict}}], "model": self.model}


def test_a_named_judge_is_asked(place: Place, tmp_path: Path, judge: list[str]) -> None:
    """And a verdict that does not come is an error, and no zero."""
    words = ["demo/table1", "columns=anet", f"judge={JUDGE}", f"out={tmp_path}"]
    reproduce(*words)
    full, fastv = (place.cell(row, "anet", out=tmp_path) for row in ("Full", "FastV"))
    assert (full.status, full.why) == (PARTIAL, "1 of 3 samples failed")
    assert full.found is not None and fastv.found is not None
    assert full.found.value == 100 and full.found.judge == JUDGE
    assert fastv.found.errors == 0 and fastv.status == DEVIATES
    before = len(judge)
    reproduce(*words)
    assert len(judge) == before, "asked once"


def test_another_judge_is_partial(place: Place, tmp_path: Path, judge: list[str]) -> None:
    reproduce("demo/table1", "rows=FastV", "columns=anet", "judge=gpt-4o", f"out={tmp_path}")
    cell = place.cell("FastV", "anet", out=tmp_path)
    assert (cell.status, cell.why) == (PARTIAL, f"judged by gpt-4o, printed by {JUDGE}")
