"""Cells that several processes share, and jobs of a cluster that do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from running import FAST

from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.storage import NAMES, exclusive
from tokenprune.study import sharing, submitting
from tokenprune.study.config import command
from tokenprune.study.launcher import Launched
from tokenprune.study.submitting import Share, submit
from tokenprune.study.sweep import parse_sweep

pytest.importorskip("matplotlib")
pytest.importorskip("pyarrow")
WORDS = ["strategy=visionzip,fastv", "keep=0.5", "samples=2", "workers=1", *FAST[:-1]]
CELLS = ["fastv-18of36", "random-18of36", "vanilla-36of36", "visionzip-18of36"]


def results(folder: Path) -> list[str]:
    """Rows of the table, without the columns of times."""
    lines = [line.split(",") for line in (folder / "results.csv").read_text().splitlines()]
    kept = [place for place, name in enumerate(lines[0]) if "_ms" not in name]
    return [",".join(line[place] for place in kept) for line in lines]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "out"
    assert main(["sweep", *WORDS, f"out={out}"]) == 0
    return out


def start(out: Path, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "tokenprune", "sweep", *WORDS, f"out={out}", *words]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_two_processes_share_the_cells_of_a_folder(alone: Path, tmp_path: Path) -> None:
    """Each cell is run by one of them, both write the table of all, and no lock is left."""
    out = tmp_path / "out"
    both = [start(out, "launcher=shared") for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert results(out) == results(alone)
    assert sorted(cell.name for cell in (out / "cells").iterdir()) == CELLS
    done = [line for _, error in said for line in error.splitlines() if " s a cell" in line]
    assert len(done) == 4, "no cell was run twice"
    assert not (out / "locks").exists() and not set(NAMES) & {path.name for path in out.iterdir()}


def test_who_shares_and_who_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, lock, begun = tmp_path / "out", tmp_path / "out/locks/cell", []
    monkeypatch.setattr(sharing, "_ENTERING", 0.1)
    with (
        exclusive(out),
        pytest.raises(ConfigError, match="is in use by process"),
        sharing.joined(out, lambda: begun.append(0)),
    ):
        raise AssertionError("a process that does not share is there")
    with sharing.joined(out, lambda: begun.append(1)):
        told = "1 processes that share it: write launcher=shared"
        with pytest.raises(ConfigError, match=told), sharing.alone(out):
            raise AssertionError("somebody is there")
        with sharing.held(lock) as mine, sharing.held(lock) as twice:
            assert mine and not twice and sharing.busy(lock)
        assert not sharing.busy(lock)
        with sharing.turn(out):
            assert list((out / "locks").iterdir())
    assert begun == [1] and list(out.iterdir()) == []
    with sharing.alone(out):
        pass


def test_what_a_process_left_when_it_was_killed(alone: Path, tmp_path: Path) -> None:
    """Its cell is nobody's again."""
    out = tmp_path / "out"
    (out / "locks/process-elsewhere-1").mkdir(parents=True)
    (out / "locks/random-18of36").mkdir()
    (out / "cells").mkdir()
    for name in CELLS[:1]:
        (out / "cells" / name).symlink_to(alone / "cells" / name)
    assert main(["sweep", *WORDS, "launcher=shared", f"out={out}"]) == 0
    assert results(out) == results(alone) and not (out / "locks").exists()


# jobs


class Told(list):
    def __call__(self, now: str) -> None:
        self.append(now)


def test_jobs_share_the_cells(alone: Path, tmp_path: Path, capfd: Any) -> None:
    pytest.importorskip("submitit")
    out = tmp_path / "out"
    assert main(["sweep", *WORDS, "launcher=submitit", f"out={out}"]) == 0
    shown = capfd.readouterr()
    assert "vanilla" in shown.out and "Results, FLOPs among them, in" in shown.out
    assert "jobs on this machine, which has no Slurm: 1, with their logs in" in shown.err
    assert "4 cells are finished" in shown.err and "failed" not in shown.err
    assert results(out) == results(alone)
    assert len(list((out / "jobs").glob("*_log.err"))) == 1


def test_a_job_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    out = tmp_path / "out"
    config = parse_sweep([*WORDS, "launcher=submitit", f"out={out}"])
    told = Told()
    with pytest.raises(ConfigError, match=r"there is no model 'atlantis'.*\(log: .*_log.err\)"):
        submit(["sweep", *WORDS, "model=atlantis"], config, out, told)
    assert told[0].startswith("jobs on this machine")


def test_what_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own options, an hour, and to go on with the same command; the cluster is made up."""
    submitit = pytest.importorskip("submitit")
    executors: list[Any] = []

    class Cluster:
        cluster = "slurm"

        def __init__(self, folder: Path) -> None:
            self.real, self.asked, self.ran = submitit.AutoExecutor(folder, cluster="slurm"), {}, []
            executors.append(self)

        def update_parameters(self, **asked: Any) -> None:
            self.real.update_parameters(**asked)
            self.asked = self.real._executor.parameters

        batch = staticmethod(lambda: exclusive(tmp_path / "batch"))

        def submit(self, share: Share) -> Any:
            self.ran.append(share)
            return Ended(share)

    class Ended:
        def __init__(self, share: Share) -> None:
            self.done, self.exception = lambda: True, lambda: None
            self.result = lambda: "printed"

    monkeypatch.setattr("submitit.slurm.slurm.shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(submitit, "AutoExecutor", _instead(submitit.AutoExecutor, Cluster))
    words = [*WORDS, "launcher=submitit", "jobs=3", "slurm.partition=gpu", "slurm.gpus_per_node=1"]
    out, told = tmp_path / "out", Told()
    assert submit(["sweep", *words], parse_sweep(words), out, told) == "printed"
    (cluster,) = executors
    assert cluster.asked["partition"] == "gpu" and cluster.asked["gpus_per_node"] == 1
    assert cluster.asked["time"] == 60
    assert len(cluster.ran) == 3 and told[0].startswith("jobs of Slurm: 3, with their logs in")
    share = cluster.ran[0]
    assert share.words[0] == "sweep" and share.words[-2:] == ("launcher=shared", f"out={out}")
    assert "launcher=submitit" not in share.words
    assert share.checkpoint().function == share


def _instead(real: Any, made: Any) -> Any:
    """`made` where no cluster is named, else the real one."""
    return lambda folder, cluster=None: real(folder, cluster) if cluster else made(folder)


def test_ctrl_c_cancels_the_jobs(tmp_path: Path) -> None:
    cancelled = []

    class Running:
        def done(self) -> bool:
            raise KeyboardInterrupt

        def cancel(self) -> None:
            cancelled.append(self)

    jobs = [Running(), Running()]
    with pytest.raises(submitting.Interrupted, match="its jobs are cancelled: finished cells stay"):
        submitting._wait(jobs, tmp_path, Told())
    assert cancelled == jobs


def test_local_jobs_are_a_process_each(tmp_path: Path) -> None:
    words = ["sweep", "strategy=fastv", "jobs=4"]
    assert "workers=1" in submitting._words(words, tmp_path, local=True)
    assert "workers=1" not in submitting._words(words, tmp_path, local=False)
    assert "workers=1" not in submitting._words([*words, "workers=3"], tmp_path, local=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["launcher=slurm"], "launcher=slurm is unknown"),
        (["launcher=submit"], "launcher=submit is unknown: did you mean submitit?"),
        (["jobs=2"], "jobs= is of a cluster: write launcher=submitit, or leave it out"),
        (["slurm.partition=gpu"], "slurm.partition= is of a cluster: write launcher=submitit"),
        (["launcher=submitit", "jobs=0"], "jobs=0 is too few: write at least 1"),
        (["launcher=submitit", "slurm.nodes=2"], "slurm.nodes=2 would run cells several times"),
        (["launcher=submitit", "slurm=gpu"], "write slurm.KEY=VALUE"),
        (
            ["launcher=submitit", "slurm.partitoin=gpu"],
            "submitit does not take slurm.partitoin=gpu: Unknown argument 'partitoin'",
        ),
    ],
)
def test_words(
    words: Sequence[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "submitit does" in told:
        pytest.importorskip("submitit")
    assert main(["sweep", "strategy=fastv", *words, f"out={tmp_path / 'out'}"]) == 2
    assert told in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(submitting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'tokenprune-video"):
        submit(["sweep"], Launched(launcher="submitit"), tmp_path, Told())


def test_who_runs_cells_is_no_part_of_results() -> None:
    words = ["strategy=fastv", "keep=0.5"]
    cluster = ["launcher=submitit", "jobs=2", "slurm.partition=gpu", "slurm.time=240"]
    assert parse_sweep(words).folder == parse_sweep([*words, *cluster]).folder
    told = command(Path("a.yaml"), ["a.yaml", "seed=1", *cluster])
    assert told == "tokenprune study a.yaml seed=1"
