"""A whole table end to end on the embedded model: jobs, their store, what cells then say."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import demo_papers
import pytest

from tokenprune.cli.main import main
from tokenprune.reproduce import ours
from tokenprune.reproduce.cell import BLOCKED, DEVIATES, EXACT, NOT_RUN, PARTIAL, REPRODUCED, Cell
from tokenprune.reproduce.cells import cells
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import read_table
from tokenprune.reproduce.jobs import Planned, plan
from tokenprune.reproduce.shared import shared
from tokenprune.reproduce.verdict import grey
from tokenprune.results.journal import count
from tokenprune.storage import exclusive

FAR = 250.0  # no score can be near it: tolerances of eight samples are wide


def _cells(id_: str, out: Path) -> dict[tuple[str, str], Cell]:
    table = read_table(id_)
    return {(cell.row.label, cell.name): cell for cell in cells(table, ours.known(out, id_))}


def _statuses(id_: str, out: Path) -> dict[str, str]:
    return {row: cell.status for (row, name), cell in _cells(id_, out).items() if name == "shapes"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The folder of the papers, and the one that the first table was reproduced into."""
    root = tmp_path_factory.mktemp("reproduce")
    printed = [[100.0, 100.0], [FAR, FAR], [1.0, 1.0]]
    home = demo_papers.write(root / "papers", {"table1": demo_papers.table(printed)})
    with demo_papers.at(home):
        assert main(["reproduce", "demo/table1", f"out={root / 'out'}", "device=cpu"]) == 0
        yield home, root / "out"


def test_a_table_is_run_and_judged(first: tuple[Path, Path]) -> None:
    _, out = first
    assert _statuses("demo/table1", out) == {
        "Full": REPRODUCED,
        "FastV": DEVIATES,
        "Else": BLOCKED,
    }
    found = _cells("demo/table1", out)["FastV", "shapes"].found
    full = _cells("demo/table1", out)["Full", "shapes"].found
    assert found is not None and full is not None
    assert found.n == found.of == demo_papers.SAMPLES and not found.errors
    assert found.effect == pytest.approx(found.value - full.value)
    assert full.full and full.effect is None
    assert found.settings["options"] == {"fastv.layer": 1, "fastv.drop": 0.5}
    assert (out / "jobs" / found.folder / "summary.json").is_file()


def test_a_derived_cell_has_what_follows_from_ours(first: tuple[Path, Path]) -> None:
    _, out = first
    derived = _cells("demo/table1", out)["FastV", "avg"]
    measured = _cells("demo/table1", out)["FastV", "shapes"]
    assert derived.status == EXACT  # the paper's own arithmetic
    assert derived.mine == measured.ours[0]


def test_the_value_is_the_runs(first: tuple[Path, Path]) -> None:
    """Counted once more in the run's own records."""
    _, out = first
    found = _cells("demo/table1", out)["FastV", "shapes"].found
    assert found is not None
    lines = (out / "jobs" / found.folder / "records.jsonl").read_text().splitlines()
    scores = [json.loads(line)["strategy"]["score"] for line in lines]
    assert found.value == pytest.approx(100 * sum(scores) / len(scores))


def test_tables_share_jobs(first: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    home, out = first
    before = sorted((out / "jobs").iterdir())
    times = [folder.stat().st_mtime_ns for folder in before]
    printed = [[50.0, 50.0], [60.0, 60.0], [1.0, 1.0]]
    tables = {"table1": demo_papers.table(printed), "table2": demo_papers.table(printed)}
    demo_papers.write(home, tables)
    assert main(["reproduce", "demo/table2", f"out={out}", "device=cpu"]) == 0
    assert sorted((out / "jobs").iterdir()) == before
    assert [folder.stat().st_mtime_ns for folder in before] == times
    one, other = (_cells(f"demo/{name}", out)["FastV", "shapes"] for name in ("table1", "table2"))
    assert one.found is not None and other.found is not None
    assert one.found.run == other.found.run


def test_a_full_model_that_deviates_greys_its_column(first: tuple[Path, Path]) -> None:
    home, out = first
    printed = [[FAR, FAR], [60.0, 60.0], [1.0, 1.0]]
    demo_papers.write(home, {"table1": demo_papers.table(printed)})
    table = read_table("demo/table1")
    made = cells(table, ours.known(out, "demo/table1"))
    assert grey(table, made) == {("Full", "shapes"), ("FastV", "shapes")}


def test_fewer_samples_are_never_reproduced(first: tuple[Path, Path], tmp_path: Path) -> None:
    home, _ = first
    demo_papers.write(home, {"table1": demo_papers.table([[50.0, 50.0]] * 3)})
    words = ["reproduce", "demo/table1", "limit=3", "rows=Full", f"out={tmp_path}", "device=cpu"]
    assert main(words) == 0
    found = _cells("demo/table1", tmp_path)["Full", "shapes"]
    assert (found.status, found.why) == (PARTIAL, f"3 of {demo_papers.SAMPLES} samples")
    assert _statuses("demo/table1", tmp_path)["FastV"] == NOT_RUN


_DRIVER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import demo_papers
from tokenprune.cli.main import main
from tokenprune.results.journal import Journal
append, answers = Journal.append, []
def last(self, *given):
    append(self, *given)
    answers.append(given)
    if len(answers) == {answers}:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.append = last
with demo_papers.at(Path({home!r})):
    sys.exit(main(sys.argv[1:]))
"""


def test_kill_9_loses_no_answer(first: tuple[Path, Path], tmp_path: Path) -> None:
    home, _ = first
    demo_papers.write(home, {"table1": demo_papers.table([[50.0, 50.0]] * 3)})
    answers = demo_papers.SAMPLES + 2  # the full model's, and some
    driver = _DRIVER.format(tests=str(Path(__file__).parent), home=str(home), answers=answers)
    words = ["reproduce", "demo/table1", "rows=FastV", f"out={tmp_path}", "device=cpu"]
    killed = subprocess.run(
        [sys.executable, "-c", driver, *words],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (folder,) = tmp_path.glob("jobs/*")
    assert not (folder / "summary.json").exists()
    assert count(folder) == answers
    assert main(words) == 0
    environment = json.loads((folder / "summary.json").read_text())["environment"]
    assert environment["earlier"], "the run was begun anew"
    assert _statuses("demo/table1", tmp_path)["FastV"] in (REPRODUCED, DEVIATES)


def test_more_samples_complete_a_partial_figure(first: tuple[Path, Path], tmp_path: Path) -> None:
    home, _ = first
    demo_papers.write(home, {"table1": demo_papers.table([[50.0, 50.0]] * 3)})
    words = ["reproduce", "demo/table1", "rows=Full", f"out={tmp_path}", "device=cpu"]
    for limit, n in ((2, 2), (4, 4), (3, 4), (None, demo_papers.SAMPLES)):
        assert main([*words, *([] if limit is None else [f"limit={limit}"])]) == 0
        found = _cells("demo/table1", tmp_path)["Full", "shapes"].found
        assert found is not None and found.n == n, "fewer never replace more"


def test_other_weights_are_run(first: tuple[Path, Path], tmp_path: Path) -> None:
    """Those that the user names; without a name what is there stays."""
    home, _ = first
    demo_papers.write(home, {"table1": demo_papers.table([[50.0, 50.0]] * 3)})
    words = ["reproduce", "demo/table1", "rows=Full", "limit=2", f"out={tmp_path}", "device=cpu"]
    for more, model in (([], "tiny"), (["model.small=nano"], "nano"), ([], "nano")):
        assert main([*words, *more]) == 0
        found = _cells("demo/table1", tmp_path)["Full", "shapes"].found
        assert found is not None and found.settings["model"] == model
        assert found.settings["prompt"].startswith("<|im_start|>user")


def test_measured_noise_is_recorded_and_used(
    first: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, _ = first
    demo_papers.write(home, {"table1": demo_papers.table([[50.0, 50.0]] * 3)})
    words = ["reproduce", "demo/table1", "rows=FastV", f"out={tmp_path}", "device=cpu"]
    assert main([*words, "noise=float32,bfloat16"]) == 0
    noise = json.loads((tmp_path / "noise.json").read_text())
    assert 0 <= noise["full"] <= 1 and 0 <= noise["compressed"] <= 1
    assert "float32 against bfloat16" in capsys.readouterr().out


def _planned(home: Path) -> list[Planned]:
    demo_papers.write(home, {"table1": demo_papers.table([[50.0, 50.0]] * 3)})
    table = read_table("demo/table1")
    return plan([("demo/table1", table, cells(table))], ReproduceConfig())


def test_processes_share_jobs(first: tuple[Path, Path], tmp_path: Path) -> None:
    """What another process is at comes when that is done; so does what takes its answers."""
    full, compressed = _planned(first[0])
    assert compressed.job.full.digest == full.job.digest
    told: list[str] = []
    with ExitStack() as other:
        other.enter_context(exclusive(tmp_path / full.job.digest))
        mine = shared([full, compressed], tmp_path, told.append, again=0.0)
        release = threading.Timer(1.0, other.pop_all().close)
        release.start()
        assert sorted(one.job.spec for one in mine) == ["fastv", "none"]
        release.join()
    assert told == ["2 jobs are left, which other processes are at: waiting for them"]


def test_a_job_is_the_same_on_another_machine(first: tuple[Path, Path]) -> None:
    """Where plug-ins and task files lie does not count, what they say does."""
    job = _planned(first[0])[0].job
    moved = dataclasses.replace(job, words={**job.words, "include_path": "/elsewhere"})
    assert moved.digest == job.digest
    other = dataclasses.replace(job, words={**job.words, "seed": 1})
    assert other.digest != job.digest
