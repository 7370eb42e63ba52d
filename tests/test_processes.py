"""Lightning's keys: each works, or is refused in words before a model is loaded.

And terminals that know few signs.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, StrategyRegistry
from running import lasting, start

from tokenprune.cli.main import main
from tokenprune.cli.terminal import adapt
from tokenprune.errors import ConfigError
from tokenprune.evaluation import run as runs
from tokenprune.evaluation.trainer import check, trainer_of

FAST = ["device=cpu", "frames=8", "max_new_tokens=4", "report=false"]
CPU = torch.device("cpu")
WORKS = {"ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"}


@pytest.mark.parametrize("name", StrategyRegistry.available_strategies())
def test_every_strategy_of_lightning_works_or_is_refused(name: str) -> None:
    options = {"accelerator": "cpu", "devices": 2, "strategy": name}
    if name in WORKS:
        check(options, CPU)
        trainer = trainer_of(CPU, options, [])
        assert isinstance(trainer.strategy, DDPStrategy) and trainer.world_size == 2
    else:
        with pytest.raises(
            ConfigError, match=rf"^trainer.strategy={name} .*: write trainer.strategy=ddp$"
        ):
            check(options, CPU)


@pytest.mark.parametrize("strategy", [{}, {"strategy": "auto"}, {"strategy": "ddp"}])
def test_processes_wait_for_each_other_for_days(strategy: dict[str, str]) -> None:
    """Their shares differ in length; Lightning's own patience is half an hour."""
    trainer = trainer_of(CPU, {"accelerator": "cpu", "devices": 2, **strategy}, [])
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.strategy._timeout is not None and trainer.strategy._timeout.days == 2
    assert isinstance(trainer_of(CPU, {"accelerator": "cpu"}, []).strategy, SingleDeviceStrategy)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (
            "strategy=ddp_spawn",
            "starts processes by copying this one, from which no results come back: write",
        ),
        ("strategy=ddp_notebook", "starts processes by copying this one"),
        (
            "strategy=fsdp",
            "spreads one model over processes, which generating answers does not work with",
        ),
        (
            "strategy=ddq",
            "is not a way of using several processes here: write trainer.strategy=ddp",
        ),
        ("precision=64-true", "write one of 32-true, bf16-true, 16-true, bf16-mixed, 16-mixed"),
        ("precision=64", "write one of 32-true"),
        ("precision=transformer-engine", "write one of 32-true"),
        ("precision=fast", "write one of 32-true"),
        ("precision=16-mixed", "needs a GPU: write trainer.precision=bf16-mixed, or 32-true"),
        ("precision=16", "needs a GPU"),
        ("accelerator=auto trainer.precision=16-mixed", "needs a GPU"),
        ("accelerator=quantum", "Lightning does not take trainer.accelerator=quantum"),
        ("devices=0", "trainer.devices=0: `Trainer(devices=0)` value is not a valid input"),
        ("devices=few", "trainer.devices=few: `devices` selected with"),
        ("num_nodes=none", "trainer.num_nodes=none: `num_nodes` must be"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(
    word: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(runs, "load", load)
    # also where there is a GPU
    for module in ("trainer", "placement"):
        monkeypatch.setattr(f"tokenprune.evaluation.{module}.pick_device", lambda _: CPU)
    out = tmp_path / "out"
    place = [] if word.startswith("accelerator") else ["trainer.accelerator=cpu"]
    assert (
        main(["run", "strategy=fastv", *FAST, *f"trainer.{word}".split(), *place, f"out={out}"])
        == 2
    )
    said = capsys.readouterr().err
    assert reason in said and len(said.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("precision", ["32-true", "32", "bf16-true", "bf16-mixed", "bf16"])
def test_a_precision_that_a_cpu_has_works(precision: str, tmp_path: Path) -> None:
    words = [
        "strategy=uniform",
        "limit=1",
        *FAST,
        f"trainer.precision={precision}",
        f"out={tmp_path / 'out'}",
    ]
    assert main(["run", *words]) == 0


def test_more_processes_than_samples(tmp_path: Path) -> None:
    """The second process has nothing to do, and the same comes out; also where a resumed run has
    one sample left.
    """
    out, alone, log = tmp_path / "out", tmp_path / "alone" / "run", tmp_path / "log"
    words = ["strategy=random", "samples=1", *FAST]
    process = start(
        log,
        *words,
        f"out={out}",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "trainer.accelerator=cpu",
    )
    assert process.wait(timeout=300) == 0, log.read_text()
    assert main(["run", *words, f"out={alone}"]) == 0
    assert lasting(out) == lasting(alone)


def test_results_on_an_ascii_terminal(tmp_path: Path) -> None:
    """Table and bars; a question, a label and an error may hold any sign."""
    words = ["run", "strategy=uniform", "limit=2", *FAST, f"out={tmp_path / 'Δ'}", "details=true"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "tokenprune", *words],
        capture_output=True,
        env=environment,
        check=False,
    )
    said, bars = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    assert done.returncode == 0, bars
    assert "d vanilla" in said and "uniform" in said and "Results in " in said
    assert "3/3 random" in bars and "\\u" not in bars


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_sign_on_any_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    adapt()
    stream.write("Δ █░ 漢 ±1")
    stream.flush()
    expected = {
        "ascii": "d #. ? ~1",
        "latin-1": "d #. ? ±1",
        "cp1252": "d #. ? ±1",
        "utf-8": "Δ █░ 漢 ±1",
    }[encoding]
    assert raw.getvalue().decode(encoding) == expected
    stream.detach()


@pytest.mark.parametrize(
    "command", [["list"], ["list", "--markdown"], ["show", "strategy=dycoke+dytok"], []]
)
def test_every_command_prints_in_ascii(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(command) == 0
    stream.flush()
    assert len(raw.getvalue().decode("ascii")) > 100
    stream.detach()
