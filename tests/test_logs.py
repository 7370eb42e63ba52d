"""`trainer.logger=`: a finished run in the places where people keep results."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import FAST, read

from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.evaluation import logs
from tokenprune.results import logged
from tokenprune.results.read import read_run
from tokenprune.study.sweep import parse_sweep

WORDS = ["run", "strategy=fastv", "limit=3", "fastv.drop=0.25", *FAST]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was logged as a file."""
    out = tmp_path_factory.mktemp("logged") / "run"
    assert main([*WORDS, "trainer.logger=csv", f"out={out}"]) == 0
    return out


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key and no server of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def expected(run: Path) -> dict[tuple[int, str], float]:
    """What was measured of each sample, from the records."""
    found = {}
    for step, record in enumerate(read(run)[1]):
        for role in ("vanilla", "strategy", "random"):
            made = record[role]
            found[step, f"{role}/score"] = made["score"]
            found[step, f"{role}/retention"] = made["tokens"]["layer_average_ratio"]
            found[step, f"{role}/answer_ms"] = made["time"]["answer_ms"]
    return found


def test_a_run_is_logged_as_a_file(run: Path) -> None:
    rows = list(csv.DictReader((run / "logs/metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    for (step, name), value in expected(run).items():
        assert float(rows[step][name]) == pytest.approx(value)
    summary, _ = read(run)
    for role, system in summary["systems"].items():
        for name in ("score", "layer_average_ratio", "answer_ms"):
            assert float(rows[3][f"summary/{role}/{name}"]) == pytest.approx(system[name])
    told = yaml.safe_load((run / "logs/hparams.yaml").read_text())
    assert told["strategy"] == "fastv" and told["limit"] == 3
    assert told["systems/strategy/fastv/drop"] == 0.25
    assert "not the papers' results" in told["note"], "what embedded models are worth goes along"


def test_a_log_is_no_part_of_what_answers_depend_on(run: Path) -> None:
    plain = run.parent / "plain"
    assert main([*WORDS, f"out={plain}"]) == 0
    assert read(plain)[0]["systems"]["vanilla"]["reused"] == str(run)
    words = ["strategy=fastv", "keep=0.5"]
    assert parse_sweep(words).folder == parse_sweep([*words, "trainer.logger=csv"]).folder


def test_tensorboard(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert logs.log("tensorboard", run, tmp_path) == (
        f"Logged; to look at it: tensorboard --logdir {tmp_path}"
    )
    events = EventAccumulator(str(tmp_path / run.name))
    events.Reload()
    for (step, name), value in expected(run).items():
        assert events.Scalars(name)[step].value == pytest.approx(value, rel=1e-6)


def test_mlflow_in_a_folder(run: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    told = logs.log("mlflow", run, tmp_path)
    uri = tmp_path.as_uri()
    assert told.endswith(f"mlflow ui --backend-store-uri {uri}")
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ, "as it was"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = mlflow.tracking.MlflowClient(uri)
        experiment = client.get_experiment_by_name("tokenprune")
        (found,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(found.info.run_id, "strategy/score")
    assert found.info.run_name == run.name and found.info.status == "FINISHED"
    assert found.data.params["systems/strategy/fastv/drop"] == "0.25"
    known = expected(run)
    scores = {step: known[step, "strategy/score"] for step in range(3)}
    assert {one.step: one.value for one in history} == scores


def test_wandb_without_a_key_is_offline_and_says_so(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    told = logs.log("wandb", run, tmp_path)
    assert told == (
        "wandb has no key here (WANDB_API_KEY, or wandb login), so it was logged offline; "
        f"to upload it: wandb sync {tmp_path}/wandb/offline-run-*"
    )
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    assert b"strategy/score" in content and b"systems/strategy/fastv/drop" in content
    assert not {"WANDB_MODE", "WANDB_SILENT"} & set(os.environ), "as it was"


def test_where_wandb_finds_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not logs._has_key()
    file = tmp_path / "netrc"
    file.write_text("machine api.wandb.ai login user password nothing\n")
    assert logs._has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not logs._has_key()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert logs._has_key()


def test_cells_are_logged_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    words = ["sweep", "strategy=visionzip", "keep=0.5", "limit=2", "workers=1", *FAST[:-1]]
    assert main([*words, "trainer.logger=csv", f"out={out}"]) == 0
    cells = sorted(cell.name for cell in (out / "cells").iterdir())
    assert sorted(log.name for log in (out / "logs").iterdir()) == cells
    rows = (out / "logs" / cells[0] / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 + 1
    assert "Logged as " in capsys.readouterr().err
    # a logger is nothing that a cell is made with
    assert main([*words, f"out={out}"]) == 0


def test_a_logger_that_fails_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run: Any, where: Path) -> str:
        raise OSError("no network")

    monkeypatch.setitem(logs.LOGGERS, "wandb", ())
    monkeypatch.setitem(logs._MADE, "wandb", broken)
    out = tmp_path / "out"
    assert main([*WORDS, "trainer.logger=wandb", f"out={out}"]) == 2
    shown = capsys.readouterr()
    assert f"trainer.logger=wandb could not log {out}: no network" in shown.err
    assert "minus vanilla" in shown.out and json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trainer.logger=wandbb", "trainer.logger=wandbb is unknown: did you mean wandb? Loggers"),
        ("trainer.logger=true", "trainer.logger=true is unknown. Loggers: csv, tensorboard"),
        ("trainer.loger=csv", "unknown key 'trainer.loger': did you mean trainer.logger=?"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_words(command: str, word: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    if command == "sweep" and "loger" in word:
        told = "trainer.loger= is a key of `tokenprune run`: cells take trainer.logger="
    assert main([command, "strategy=fastv", word]) == 2
    assert told in capsys.readouterr().err


def test_a_missing_package_is_named_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs mlflow: pip install 'tokenprune-video"):
        logs.check_installed({"logger": "mlflow"})
    logs.check_installed({"logger": "csv"})
    logs.check_installed({})


def test_nothing_that_is_not_known_is_logged(run: Path) -> None:
    found = read_run(run)
    assert all(value is not None for value in logged.asked(found).values())
    assert all(isinstance(value, float) for value in logged.figures(found).values())
    assert "summary/vanilla/to_vanilla" not in logged.figures(found)
