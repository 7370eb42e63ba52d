"""What a run shows: in 80 columns what one needs, in `report.md` everything."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from rich.console import Console
from rich.progress import Progress
from running import FAST

from tokenprune import checkpoints
from tokenprune.cli.display import results
from tokenprune.cli.main import main
from tokenprune.evaluation.config import parse
from tokenprune.evaluation.progress import Bar
from tokenprune.evaluation.run import Finished
from tokenprune.results.answer import ROLES, Answer
from tokenprune.results.notes import against_random
from tokenprune.results.read import read_run
from tokenprune.results.report import report
from tokenprune.results.summarise import summarise
from tokenprune.results.summary import Setting, Summary
from tokenprune.results.system import System
from tokenprune.results.wording import duration
from tokenprune.study.sweep import parse_sweep
from tokenprune.tasks.questions import CATEGORIES

ROOT = Path(__file__).parent.parent
MS = {"vanilla": 60.0, "random": 48.0, "strategy": 75.0}


def answer(index: int, role: str, score: float) -> Answer:
    kept = 1.0 if role == "vanilla" else 0.458
    ratios = dict.fromkeys(("requested_ratio", "input_ratio", "layer_average_ratio"), kept)
    time: dict[str, float | None] = {"answer_ms": MS[role], "prefill_ms": MS[role] / 4}
    time |= {"strategy_ms": 1.0, "probe_ms": 20.0}
    return Answer(
        index,
        f"s{index}",
        "abc"[index % 3],
        "What?",
        "red",
        prediction="red",
        score=score,
        tokens={"full": 576, "kept": 264, **ratios},
        time=time,
    )


def cast(right: dict[str, int], label: str = "dycoke+dytok", samples: int = 90) -> list[System]:
    """Systems of which `right` says how many of ten samples each answers rightly."""
    made = []
    for role in ROLES:
        scores = [float(index % 10 < right[role]) for index in range(samples)]
        answers = [answer(index, role, score) for index, score in enumerate(scores)]
        made.append(System(role, label if role == "strategy" else role, None, answers))
    return made


def summed(systems: list[System]) -> Summary:
    note = checkpoints.note("tiny")
    summary = summarise(systems, Setting(spec="dycoke+dytok", task="tinyvqa", note=note))
    return replace(summary, environment={"device": "cpu", "dtype": "float32"})


def shown(systems: list[System], folder: str = "runs/20261127-092306-dycoke+dytok") -> str:
    console = Console(width=80, file=StringIO(), record=True)
    finished = Finished(Path(folder), summed(systems), systems)
    console.print(results(finished), crop=False)
    return console.export_text()


def row(text: str, name: str) -> str:
    """The line of a system in the table of results."""
    table = text.partition("───\n")[2].partition("\n\n")[0]
    (line,) = (line for line in table.splitlines() if line.startswith(f"{name} "))
    return line


TIE = {"vanilla": 9, "random": 7, "strategy": 7}


def test_the_figures_stand_in_one_small_table() -> None:
    text = shown(cast({"vanilla": 10, "random": 3, "strategy": 7}))
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    own, interval = row(text, "dycoke+dytok"), r"\[[-+.\d]+, [-+.\d]+\]"
    assert re.fullmatch(
        rf"dycoke\+dytok +70\.0 {interval} +-30\.0 {interval} +45\.8 % +75 ms \(\+25 %\) *", own
    )
    assert re.search(r"^vanilla +100\.0.*? - +100\.0 % +60 ms *$", text, re.MULTILINE)
    assert "48 ms (-20 %)" in row(text, "random")
    said = " ".join(text.split())
    assert "21 ms for its stages and its guide" in said
    assert "prefill takes 19 ms instead of 15 ms" in said, "slower is said to be slower"
    assert "not the papers' results" in said and "medians of 90 answers, on this machine" in said
    assert "category" not in text.lower() and "FLOPs" not in text


def test_what_was_found_comes_first() -> None:
    lines = shown(cast(TIE)).splitlines()
    first = " ".join(line.strip() for line in lines[: lines.index("")])
    assert first.startswith("dycoke+dytok keeps 45.8 % of the visual tokens and scores 70.0 %, ")
    assert "20.0 points below the full model (95 % interval [" in first
    assert first.count("At the same measured budget, 45.8 % of the visual tokens") == 1


def test_what_the_tower_worked_on_is_said_under_a_stage_inside_it() -> None:
    systems, said = cast(TIE), "Its vision tower worked on 62.5 % of its rows, mean over layers."
    assert "tower" not in shown(systems)
    for place, one in enumerate(systems[-1].answers):
        one.tokens["tower"] = {"ratio": (0.5, 0.75)[place % 2]}
    assert f"{said} At the same measured budget" in " ".join(shown(systems).split())


def test_five_columns_fit_with_a_name_of_usual_length() -> None:
    text = shown(cast(TIE, "visionzip+dytok"))
    assert row(text, "visionzip+dytok").count("[") == 2, "intervals beside what they are of"
    assert len(row(text, "visionzip+dytok")) <= 80


@pytest.mark.parametrize(
    ("right", "told"),
    [
        (TIE, "cannot be told apart from random: +0.0 points, 95 % interval ["),
        (TIE | {"strategy": 9}, "scores higher than random: +20.0 points, 95 % interval [+"),
        (TIE | {"strategy": 3}, "scores lower than random: -40.0 points, 95 % interval [-"),
    ],
)
def test_one_sentence_says_what_the_interval_tells(right: dict[str, int], told: str) -> None:
    systems = cast(right)
    if right == TIE:  # as many right, of others
        systems[2].answers = [answer(i, "strategy", float(i % 10 > 2)) for i in range(90)]
    sentence = against_random(summed(systems))
    begin = "At the same measured budget, 45.8 % of the visual tokens, dycoke+dytok "
    assert sentence and sentence.startswith(begin + told)
    assert sentence in " ".join(shown(systems).split())
    assert sentence in report(summed(systems), systems)


def test_without_intervals_nothing_is_claimed() -> None:
    text = " ".join(shown(cast(TIE, samples=9)).split())
    assert "the samples give no interval to tell them apart" in text
    assert "No intervals: resampling takes at least 5 samples" in text


def test_what_is_long_is_neither_cut_nor_broken() -> None:
    label, folder = "a_very_long_name_of_a_method+another_one", "/a/deep" * 20
    text = shown(cast(TIE, label), folder)
    assert "…" not in text and f"Results in {folder}: report.md" in text
    assert max(len(line) for line in text.splitlines() if folder not in line) <= 80
    assert row(text, "strategy") and label not in row(text, "strategy"), "in sentences only"
    assert text.count(label) == 4


def test_lost_samples_are_told() -> None:
    systems = cast(TIE)
    broken = replace(systems[2].answers[4], error="VideoError: torn", score=None, tokens={})
    systems[2].answers = [broken if one.index == 4 else one for one in systems[2].answers]
    told = "1 of 90 samples could not be evaluated (first: s4: VideoError: torn)"
    assert told in " ".join(shown(systems).split())
    assert told in report(summed(systems), systems)


def test_durations() -> None:
    assert duration(9.96) == "10.0 ms" and duration(12.4, 24.0) == "12 ms (-48 %)"
    assert duration(30.0, 24.0) == "30 ms (+25 %)" and duration(24.01, 24.0) == "24 ms (as long)"


def test_every_command_that_is_named_works() -> None:
    text = shown(cast(TIE)).replace("\\\n", " ")
    named = [
        line.partition("tokenprune ")[2] for line in text.splitlines() if "tokenprune " in line
    ]
    words = {command: rest for command, *rest in map(shlex.split, named)}
    assert parse(words["run"]).model.startswith("llava-hf/")
    assert parse_sweep(words["sweep"]).keep == [0.5, 0.25]
    assert words["compare"] == ["FOLDER", "FOLDER"]
    pages = re.findall(r"docs/\w+\.md", text)
    assert len(pages) == 3 and all((ROOT / page).is_file() for page in pages)


def on_a_terminal(words: list[str], cwd: Path, columns: int) -> str:
    """What a command writes to a terminal of that width."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", "tokenprune", *words]
    hidden = {"COLUMNS", "LINES"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, cwd=cwd, stdout=writer, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(writer)
    written = b""
    while True:
        try:
            piece = os.read(reader, 1 << 16)
        except OSError:  # what Linux says at the end
            break
        if not piece:
            break
        written += piece
    os.close(reader)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).replace("\r\n", "\n")


def test_a_run_prints_in_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its output goes to a file; and a wider terminal changes nothing."""
    monkeypatch.chdir(tmp_path)
    words = ["run", "strategy=dycoke+dytok", f"limit={len(CATEGORIES)}", *FAST]
    assert main(words) == 0
    captured = capsys.readouterr()
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"Results in runs/{folder.name}: report.md" in captured.out
    printed = [
        captured.out,
        on_a_terminal(words, tmp_path, 80),
        on_a_terminal(words, tmp_path, 200),
    ]
    for text in printed:
        assert max(map(len, text.splitlines())) <= 80 and "…" not in text
        assert "dycoke+dytok minus random is" in " ".join(text.split())
        assert "Where to look next" in text
    assert max(map(len, captured.err.splitlines())) <= 80
    assert "note on" not in captured.err, "its own benchmark is what it knows"


def test_the_report_is_made_of_the_files_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = tmp_path / "out", [f"limit={len(CATEGORIES)}", "dycoke.merge=0.5", *FAST]
    assert main(["run", "strategy=dycoke", *words, "details=true", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "FLOPs" in said and "score by category" in said and "Where to look next" not in said
    page = (out / "report.md").read_text(encoding="utf-8")
    run = read_run(out)
    systems = [
        System(role, run.summary.systems[role].label, None, run.answers(role)) for role in run.roles
    ]
    assert report(run.summary, systems) == page
    assert all(f"\n| {category} | " in page for category in CATEGORIES)
    pieces = (
        "| LLM input tokens % |",
        "FLOPs prefill",
        "| prefill ms |",
        ", torch ",
        "dycoke.merge",
    )
    assert [piece for piece in pieces if piece not in page] == []
    assert parse([f"config={out / 'config.yaml'}"]).limit == len(CATEGORIES), "details is no key"


def test_a_switch_is_asked_for_plainly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "strategy=fastv", "details=all"]) == 2
    assert "details=all is not true or false: write details=true" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "\n  details " in capsys.readouterr().out


def test_a_bar_stays_on_one_line_of_80_characters_whatever_its_name() -> None:
    columns = Bar().configure_columns(Trainer(logger=False, enable_checkpointing=False))
    screen = Console(width=80, file=StringIO(), record=True, force_terminal=True)
    progress = Progress(*columns, console=screen)
    progress.add_task("2/3 [a]visionzip+dytok 85.8 ±4.1", total=225, completed=225)
    screen.print(progress.make_tasks_table(progress.tasks))
    (line,) = screen.export_text().splitlines()
    assert line.startswith("2/3 [a]visionzip+dytok 85.8 ±4.1 ") and "225/225" in line
