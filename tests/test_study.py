"""The study: what its file may say, its cells, its statistics against closed forms, and whole
studies on the model.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
import multiprocessing
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenprune import checkpoints
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.results.answer import Answer
from tokenprune.results.statistics import Resamples
from tokenprune.strategy import Extent
from tokenprune.study import cell_files, config, plan
from tokenprune.study.keyframes import expected_reciprocal, importance, reciprocal_rank
from tokenprune.study.place import place_of
from tokenprune.study.results import gather
from tokenprune.study.runner import Runner
from tokenprune.study.stale import unfinished
from tokenprune.tasks import Task

EXPERIMENT = Path(__file__).parent.parent / "experiments/tinyvqa_retention.yaml"
EXTENT = Extent(16, 36, 6)
SMALL = """
strategies: [{spec: random}, {spec: dycoke, label: merging, options: {dycoke.prune: 0.5}}]
retentions: [1.0, 0.5, 0.1]
frames: 8
samples: 9 # up to the needle category
max_new_tokens: 4
device: cpu
resamples: 500
workers: 1
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "small.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (
            SMALL + "retention: [0.5]",
            [],
            "unknown key 'retention' in {file}: did you mean retentions?",
        ),
        (
            "strategies: [{specs: random}]",
            [],
            "unknown key 'specs' in strategies: did you mean spec?",
        ),
        (SMALL, ["sample=3"], "unknown key 'sample': did you mean samples=?"),
        (SMALL, ["strategies=[]"], "'strategies=[]' is not a key by itself: write it into a file"),
        (SMALL, ["seed=x"], "seed=x is not a whole number"),
        (SMALL, ["--workers"], "write workers=VALUE"),
        (SMALL, ["samples=0"], "samples=0 is too few"),
        (SMALL, ["retentions=[0.0]"], "write fractions above 0 and up to 1"),
        (SMALL, ["assistants=[self,self]"], "the assistant 'self' is named twice"),
        (SMALL, ["assistants=[atlantis]"], "there is no model 'atlantis'"),
        (SMALL, ["allocator=dytoc"], "unknown strategy 'dytoc': did you mean 'dytok'?"),
        (SMALL, ["task=tinyvqua"], "unknown task 'tinyvqua'"),
        (SMALL, ["frames=4"], "frames must be at least 8"),
        ("strategies: []", [], "a study needs strategies"),
        ("strategies: random", [], "strategies=random is not a list"),
        ("strategies: [{spec: random}, {spec: random}]", [], "two strategies are called 'random'"),
        ("strategies: [{spec: fastv, options: {fastv.layers: 1}}]", [], "Key 'layers' not in"),
        (
            "strategies: [{spec: fastv, options: {fastv.layer: 9}}]",
            [],
            "fastv.layer=9 prunes nothing",
        ),
        ("strategies: [", [], "is not YAML"),
        ("- 1", [], "holds no keys"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    text: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = written(tmp_path, text), tmp_path / "out"
    assert main(["study", str(file), f"out={out}", *words]) == 2
    error = capsys.readouterr().err
    assert message.format(file=file) in error and error.count("\n") == 1
    assert not out.exists()


def test_a_study_needs_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study"]) == main(["study", "nowhere.yaml"]) == 2
    error = capsys.readouterr().err
    assert "a study is one YAML file, as in" in error and "nowhere.yaml" in error


def test_the_cells_of_the_experiment() -> None:
    _, study = config.read_study([str(EXPERIMENT), "assistants=[self]"])
    cells = plan.plan_cells(study, EXTENT)
    assert cells[0].label == "vanilla" and cells[0].budget == 1
    assert list(plan.budgets(study.retentions, 36)) == [36, 27, 18, 9, 5, 4]
    assert len({cell.slug for cell in cells}) == len(cells) == 1 + 5 * 6 * 2
    reasons = {(cell.label, cell.tokens): cell.reason for cell in cells if cell.pipeline is None}
    limited = [name + end for name in ("dycoke", "fastv") for end in ("", "+dytok (self)")]
    assert set(reasons) == set(itertools.product(limited, (5, 4)))
    assert reasons["dycoke", 4].startswith("dycoke retains 25.0% to 100.0% here, not 11.1%")
    assert all(
        len(cell.pipeline.strategies) == (1 if cell.guide is None else 2)
        for cell in cells[1:]
        if cell.pipeline
    )


def test_the_command_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    words = ["samples=3", f"out={tmp_path}", "workers=1", f"report={tmp_path}"]
    assert config.command(tmp_path / "a.yaml", words) == "tokenprune study a.yaml samples=3"


def test_macro_averages_are_means_of_family_means() -> None:
    categories = ["a"] * 30 + ["b"] * 10
    scores = np.random.default_rng(0).random(40)
    drawn = Resamples(categories, 4000, seed=1)
    found = drawn.estimate(scores)
    assert found.value == pytest.approx((scores[:30].mean() + scores[30:].mean()) / 2)
    spread = math.sqrt(scores[:30].var(ddof=1) / 30 + scores[30:].var(ddof=1) / 10) / 2
    assert found.interval is not None
    low, high = found.interval
    assert (high - low) / (2 * 1.96) == pytest.approx(spread, rel=0.05), "that of the closed form"
    assert drawn.estimate(scores) == Resamples(categories, 4000, seed=1).estimate(scores)
    assert drawn.estimate(np.ones(40)) == (1.0, None)


def test_pairing_sees_what_separate_intervals_do_not() -> None:
    scores = np.random.default_rng(0).random(40)
    drawn = Resamples(["a"] * 40, 2000)
    worse = scores - np.linspace(0.005, 0.015, 40)
    better, other = drawn.estimate(scores).interval, drawn.estimate(worse).interval
    assert better and other and better[0] < other[1], "they overlap"
    assert drawn.paired(scores, worse).sign == 1 and drawn.paired(worse, scores).sign == -1


@given(
    st.integers(1, 6).flatmap(
        lambda tied: st.tuples(st.integers(0, 3), st.just(tied), st.integers(1, tied))
    )
)
def test_expected_reciprocal_rank_is_the_mean_over_all_orders(case: tuple[int, int, int]) -> None:
    above, tied, wanted = case
    orders = list(itertools.permutations(range(tied)))
    ranks = [
        1 / (above + 1 + min(order.index(frame) for frame in range(wanted))) for order in orders
    ]
    assert expected_reciprocal(above, tied, wanted) == pytest.approx(sum(ranks) / len(ranks))


def test_frame_importance() -> None:
    assert reciprocal_rank([0.1, 0.4, 0.3, 0.2], [2]) == 1 / 2
    assert reciprocal_rank([0.1, 0.4, 0.3, 0.2], [0, 3]) == 1 / 3
    assert reciprocal_rank([0.25] * 4, [1, 2]) == expected_reciprocal(0, 4, 2), (
        "who knows nothing is at chance"
    )

    def weighed(*weights: float) -> Answer:
        asked = {"index": 0, "id": "a", "question": "", "answer": ""}
        tokens = {"frame_weights": list(weights)}
        return Answer(**asked, category="needle", evidence=[2], tokens=tokens)

    right, wrong = weighed(0.1, 0.2, 0.7), weighed(0.7, 0.2, 0.1)
    other = dataclasses.replace(right, category="colour")
    found = importance("self", [right] * 5 + [other], 100, 0)
    assert found and found.samples == 5 and found.reciprocal_rank == (1, None)
    assert found.advantage.sign is None, "all are as far above chance: no spread"
    mixed = importance("self", [right] * 9 + [wrong], 1000, 0)
    assert mixed and mixed.advantage.sign == 1
    assert found.chance == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert importance("self", [dataclasses.replace(right, evidence=None)], 100, 0) is None


def test_a_cell_off_its_budget_is_marked() -> None:
    _, study = config.read_study([str(EXPERIMENT), "assistants=[]", "retentions=[0.5]"])
    cells = plan.plan_cells(study, EXTENT)
    answers = {}
    for cell in cells:
        tokens = {"layer_average_ratio": 0.506 if cell.tokens < 36 else 1.0, "decode_ratio": None}
        asked = {"index": 0, "id": "a", "category": "c", "question": "", "answer": ""}
        answers[cell.slug] = [Answer(**asked, score=1.0, tokens=tokens, flops_ratio=0.5)]
    results = gather(cells, answers, 100, 0)
    assert [row.off_budget for row in results.rows] == [False] + [True] * 6
    vanilla = results.vanilla
    assert vanilla.measured["decode_ratio"] is vanilla.to_vanilla is vanilla.to_random is None


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One study that several tests look at: its file and folder."""
    home = tmp_path_factory.mktemp("study")
    file = written(home, SMALL)
    assert main(["study", str(file), f"out={home / 'deep' / 'out'}"]) == 0
    return file, home / "deep" / "out"


def test_what_a_study_writes(done: tuple[Path, Path]) -> None:
    _, out = done
    assert sorted(path.name for path in out.iterdir()) == [
        *("cells", "tinyvqa.csv", "tinyvqa.md", "tinyvqa.png", "tinyvqa_categories.png")
    ]
    finished = {path.name: cell_files.read(path) for path in (out / "cells").iterdir()}
    hosts = {"random-18of36", "merging-18of36", "random-04of36"}
    guided = {"random+dytok-self-18of36", "merging+dytok-self-18of36", "random+dytok-self-04of36"}
    assert set(finished) == {"vanilla-36of36", *hosts, *guided}
    for name, answers in finished.items():
        assert [one.id for one in answers] == [one.id for one in finished["vanilla-36of36"]]
        assert [one.index for one in answers] == [*range(9)], "asked by category, told in order"
        ratio = int(name.split("-")[-1][:2]) / 36
        kept = [one.tokens["layer_average_ratio"] for one in answers]
        assert kept == pytest.approx([ratio] * 9, abs=0.002), "equal budgets"
        assert all(("frame_weights" in one.tokens) == ("dytok" in name) for one in answers)
    rows = list(csv.DictReader((out / "tinyvqa.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(finished) + 2
    categories = [answer.category for answer in finished["vanilla-36of36"]]
    for row in (row for row in rows if row["status"] == "ok"):
        assert row["score_low"] == row["to_vanilla_high"] == row["to_random_p_holm"] == "", (
            "one sample each tells nothing"
        )
        mean = sum(float(row[f"category_{name}"]) for name in categories) / len(categories)
        assert float(row["score"]) == pytest.approx(mean, rel=1e-4), "one column per category"


def test_the_page(done: tuple[Path, Path]) -> None:
    file, out = done
    page = (out / "tinyvqa.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    assert "Written by `tokenprune study small.yaml`" in text and str(file.parent) not in text
    assert "`merging` has dycoke.prune=0.5" in text and "not the papers' results" in text
    assert text.count("`merging` cannot keep as little as 11.1 %: merging leaves") == 1
    assert "The samples do not tell any method from `random`" in text
    assert "The samples do not tell any method from the full model." in text
    assert "weights of guide self: mean reciprocal rank" in text
    assert "Independent samples in the smallest category: 1; resampling takes at least 5" in text
    assert not re.search(r"\d \[\d|Above|helps|\] \*", text), "no interval, no claim"
    assert "(tinyvqa.png)" in text and "(tinyvqa.csv)" in text


def untimed(cell: Path) -> list[Answer]:
    return [dataclasses.replace(answer, time={}) for answer in cell_files.read(cell)]


def test_finished_cells_are_not_run_again(
    done: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = done
    files = {path: path.read_bytes() for path in out.glob("*.*")}
    lost = out / "cells" / "random-04of36"
    before = untimed(lost)
    shutil.rmtree(lost)
    ran: list[str] = []
    run = Runner.run
    monkeypatch.setattr(
        Runner, "run", lambda self, cell: [ran.append(cell.slug), run(self, cell)][1]
    )
    assert main(["study", str(file), f"out={out}"]) == 0
    assert ran == ["random-04of36"] and untimed(lost) == before
    assert {path: path.read_bytes() for path in files} == files, "the same page, plots and table"
    assert main(["study", str(file), f"out={out}", "seed=1"]) == 2
    assert "was made with seed=0, which now is 1: write another out=" in capsys.readouterr().err
    assert len(ran) == 1


@pytest.mark.parametrize("word", ["model={}", "assistants=[{}]"])
def test_cells_of_other_weights_are_refused(word: str, tmp_path: Path) -> None:
    """Of a folder, too, whose model was trained on between two calls."""
    folder = shutil.copytree(checkpoints.path("nano"), tmp_path / "folder")
    _, study = config.read_study([str(written(tmp_path, SMALL)), word.format(folder)])
    reachable = [cell for cell in plan.plan_cells(study, EXTENT) if cell.pipeline]

    def made() -> dict[Path, cell_files.Settings]:
        place = place_of(study, reachable, Task)
        settings = [cell_files.settings_of(study, cell, place, {}) for cell in reachable]
        return {tmp_path / cell.slug: one for cell, one in zip(reachable, settings, strict=True)}

    before, last = made(), reachable[-1]
    file = tmp_path / last.slug
    answer = Answer(0, "a", "c", "", "", score=1.0, tokens={"layer_average_ratio": 0.1})
    cell_files.write(file, last, before[file], cell_files.Made([answer], {}, {}))
    assert unfinished(made()) == set(before) - {file}
    trained = bytearray((folder / "model.safetensors").read_bytes())
    trained[-1] ^= 1
    (folder / "model.safetensors").write_bytes(trained)
    after = made()
    for cell, settings in before.items():
        uses = str(folder) in settings.made_with["weights"]
        assert (after[cell] != settings) == uses
    with pytest.raises(
        ConfigError,
        match=r"made with weights\.\S*model.safetensors=\w{16}, which now is \w{16}: write another",
    ):
        unfinished(after)


def test_an_interrupted_study_keeps_what_is_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Answer(0, "a", "c", "", "", score=1.0, tokens={"layer_average_ratio": 1.0})
    answers: Any = iter([[first], KeyboardInterrupt()])

    def run(self: Runner, cell: plan.Cell) -> list[Answer]:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(Runner, "run", run)
    assert main(["study", str(written(tmp_path, SMALL)), f"out={tmp_path / 'out'}"]) == 130
    assert "interrupted after 1 of 7 cells, which stay" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "cells").iterdir()] == ["vanilla-36of36"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_several_processes_write_the_same_cells(
    done: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fork = multiprocessing.get_context("fork")  # a spawned process would spend the test on imports
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: fork)
    out = tmp_path / "out"
    assert (
        main(
            ["study", str(done[0]), f"out={out}", "workers=2", "allocator=null", "retentions=[0.1]"]
        )
        == 0
    )
    names = sorted(path.name for path in (out / "cells").iterdir())
    assert names == ["random-04of36", "vanilla-36of36"]
    for name in names:
        assert untimed(out / "cells" / name) == untimed(done[1] / "cells" / name)
