"""One rule of what may be claimed: Holm's correction, and the same in every place that prints."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tokenprune import registry
from tokenprune.cli.details import details
from tokenprune.cli.display import results
from tokenprune.cli.main import main
from tokenprune.evaluation import compare, compare_screen
from tokenprune.evaluation.run import Finished
from tokenprune.results.answer import Answer
from tokenprune.results.record import write
from tokenprune.results.statistics import DRAWS, Paired, Resamples, enough, holm
from tokenprune.results.summarise import summarise
from tokenprune.results.summary import Setting, Summary
from tokenprune.results.system import System
from tokenprune.study.plan import Cell
from tokenprune.study.run import Swept, sweep
from tokenprune.study.runner import Runner
from tokenprune.study.screen import swept
from tokenprune.study.sweep import parse_sweep
from tokenprune.tasks.questions import CATEGORIES


def with_p(*ps: float | None) -> list[Paired | None]:
    return [None if p is None else Paired(0.1, [0.01, 0.2], p, None) for p in ps]


def corrected(*ps: float | None) -> list[float | None]:
    return [None if one is None else one.p_holm for one in holm(with_p(*ps))]


def test_holm_by_hand() -> None:
    assert corrected(0.01, 0.04, 0.03, 0.005) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert corrected(0.04) == [0.04] and corrected() == [] and corrected(0.6, 0.7) == [1.0, 1.0]
    assert corrected(0.03, None, 0.02) == pytest.approx([0.04, None, 0.04]), (
        "what is not compared does not count"
    )
    untold, told = Paired(0.1, None, None, 0.01), Paired(0.1, [0.01, 0.2], 0.04, None)
    assert holm([untold, told]) == [untold, told._replace(p_holm=0.04)], "nor what has no interval"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_closed_test_of_bonferroni(ps: list[float]) -> None:
    """Rejected are those whose every set of hypotheses Bonferroni rejects: Holm's step-down,
    another way round.
    """
    found = corrected(*ps)
    ranked = sorted(ps)
    for p, own in zip(ps, found, strict=True):
        below = [other for other in ranked if other <= p]
        steps = [min(1.0, (len(ps) - place) * other) for place, other in enumerate(below)]
        first = [
            min(1.0, (len(ps) - place) * other) for place, other in enumerate(ranked) if other == p
        ][:1]
        assert own is not None and p <= own <= min(1.0, len(ps) * p) + 1e-12
        assert own == pytest.approx(max(steps[: len(below)])) and own >= first[0] - 1e-12


def test_p_is_that_of_the_interval() -> None:
    """Twice the smaller share of resamplings beyond 0, the samples counted as one more; never 0."""
    change = np.random.default_rng(0).normal(0.3, 1.0, 40)
    drawn = Resamples(["a"] * 40, 2000)
    found, draws = drawn.paired(change, np.zeros(40)), drawn.draws(change)
    assert found.p == pytest.approx(2 * (1 + (draws <= 0).sum()) / 2001)
    assert found.interval and found.p and (found.interval[0] > 0) == (found.p <= 0.05)
    clear = drawn.paired(change + 9, np.zeros(40))
    assert clear.p == pytest.approx(2 / 2001) and clear.sign == 1
    assert (
        enough(50, 2000) and not enough(51, 2000) and enough(158, DRAWS) and not enough(251, DRAWS)
    )


def answer(index: int, score: float, category: str, group: str | None) -> Answer:
    ratios = dict.fromkeys(
        ("requested_ratio", "input_ratio", "layer_average_ratio", "decode_ratio"), 0.5
    )
    tokens = {
        "full": 288,
        "kept": 144,
        **ratios,
        "kept_per_frame": [18] * 8,
        "slots": [],
        "stages": [],
    }
    whose: dict[str, Any] = {
        "index": index,
        "id": f"s{index}",
        "category": category,
        "group": group,
    }
    made: dict[str, Any] = {
        "prediction": "red",
        "score": score,
        "tokens": tokens,
        "flops_ratio": 0.4,
    }
    return Answer(**whose, question="What?", answer="red", **made)


def systems(families: list[str], groups: list[str | None], seed: int = 0) -> list[System]:
    """Graded and exact answers of a full model, a strategy and the control."""
    draw, cast = np.random.default_rng(seed), []
    for name, spec, mean in (
        ("vanilla", "none", 0.8),
        ("strategy", "dycoke", 0.6),
        ("random", "random", 0.3),
    ):
        scores = (draw.random(len(families)) < mean) * draw.choice([1.0, 0.5], len(families))
        asked = zip(scores.tolist(), families, groups, strict=True)
        outcomes = [answer(index, *one) for index, one in enumerate(asked)]
        cast.append(
            System(name, "dycoke" if name == "strategy" else name, registry.build(spec), outcomes)
        )
    return cast


def run_folder(folder: Path, cast: list[System], seed: int) -> Summary:
    """A finished run of these answers; its summary."""
    summary = replace(
        summarise(cast, Setting(task="t", frames=8, seed=seed)),
        environment={"device": "cpu", "dtype": "float32"},
    )
    folder.mkdir()
    write(folder, summary, cast, {answer.id: "What?" for answer in cast[0].answers}, {}, {})
    return summary


def terminal(shown: Any, width: int = 160) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(shown)
    return " ".join(console.export_text().split())


def answering(cast: dict[str, System]) -> Callable[[Runner, Cell], list[Answer]]:
    """A runner whose cells have these answers, by method."""

    def run(self: Runner, cell: Cell) -> list[Answer]:
        kept = dict.fromkeys(("layer_average_ratio", "input_ratio", "decode_ratio"), cell.budget)
        made = cast[cell.method].answers
        return [dataclasses.replace(one, tokens={**one.tokens, **kept}) for one in made]

    return run


def swept_from(
    cast: dict[str, System], folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str
) -> Swept:
    monkeypatch.setattr(Runner, "run", answering(cast))
    return sweep(parse_sweep([*words, "keep=0.5", "workers=1", f"out={folder}"]))


@pytest.mark.parametrize("grouped", [False, True])
def test_a_run_a_sweep_and_a_comparison_say_the_same(
    grouped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = ["ab"[place // 20] for place in range(40)]
    cast = systems(families, [f"v{place // 3}" if grouped else None for place in range(40)])
    own, random = cast[1:]
    summary = run_folder(tmp_path / "own", cast, seed=7)
    run_folder(tmp_path / "random", [cast[0], random], seed=7)
    done = swept_from(
        {s.label: s for s in cast},
        tmp_path / "sweep",
        monkeypatch,
        "strategy=dycoke",
        "seed=7",
    )
    row = next(row for row in done.results.rows if row.cell.method == "dycoke")
    ours = summary.subject
    assert ours.score and ours.to_vanilla and ours.to_random
    assert row.score.interval == ours.score.interval is not None
    assert row.to_vanilla and row.to_vanilla[:3] == ours.to_vanilla[:3]
    against = ours.to_random[:3]
    assert row.to_random and row.to_random[:3] == against and against[1] is not None
    found = compare.compare((tmp_path / "random", tmp_path / "own"))
    assert found.rows[-1].change[:3] == against, "the same samples, seed, resamples and groups"
    apart = Resamples(families, seed=7).paired(
        *(np.array([o.score for o in s.answers]) for s in (own, random))
    )
    assert (apart.interval == against[1]) == (not grouped), (
        "groups were read from the records of each"
    )


def one_of_each() -> dict[str, System]:
    """One sample of every family: all right, all wrong but one, and the control in between."""
    cast = systems(list(CATEGORIES), [None] * len(CATEGORIES))
    found = {"vanilla": cast[0], "uniform": cast[1], "random": cast[2]}
    for name, right in (("vanilla", 15), ("uniform", 1), ("random", 6)):
        found[name].answers = [
            answer(i, float(i < right), family, None) for i, family in enumerate(CATEGORIES)
        ]
    return found


CLAIM = r"\d \[|: above|\] \*|Above |[Rr]eliabl[ye]|helps|hurts"


def test_one_sample_of_a_category_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = swept_from(one_of_each(), tmp_path / "sweep", monkeypatch, "strategy=uniform")
    text = terminal(swept(done))
    assert "6.7 -93.3" in text and "[95 %]" not in text and not re.search(CLAIM, text)
    assert "Independent samples in the smallest category: 1; resampling takes at least 5" in text
    for line in csv.DictReader((tmp_path / "sweep" / "results.csv").read_text().splitlines()):
        assert not any(
            value
            for name, value in line.items()
            if name.endswith(("_low", "_high", "_p", "_p_holm"))
        )
    cast = list(one_of_each().values())
    cast[1].name = "strategy"
    summary = run_folder(tmp_path / "run", cast, seed=0)
    finished = Finished(tmp_path / "run", summary, cast)
    written = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    # a category's own interval is Wilson's, which any number of samples has
    page = " ".join(written.partition("## By category")[0].split())
    for shown in (terminal(results(finished)), terminal(details(finished, 160)), page):
        assert not re.search(CLAIM, shown)
        assert "the samples give no interval to tell them apart" in shown
        assert "No intervals: resampling takes at least 5" in shown
    cast[1].answers = cast[2].answers
    run_folder(tmp_path / "other", cast, seed=0)
    found = compare.compare((tmp_path / "run", tmp_path / "other"))
    assert found.rows[-1].change.sign is None and not re.search(
        CLAIM, terminal(compare_screen.screen(found))
    )


STUDY = """
strategies: [{spec: random}, {spec: uniform}]
retentions: [0.5]
allocator: null
frames: 8
workers: 1
"""


def study(
    cast: dict[str, System], folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = STUDY
) -> tuple[str, list[dict[str, str]]]:
    """The page and the table."""
    monkeypatch.setattr(Runner, "run", answering(cast))
    file = folder / "small.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["study", str(file), f"out={folder / 'out'}"]) == 0
    table = csv.DictReader((folder / "out" / "tinyvqa.csv").read_text().splitlines())
    return (folder / "out" / "tinyvqa.md").read_text(encoding="utf-8"), list(table)


def test_a_study_of_one_sample_of_a_category_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, table = study(one_of_each(), tmp_path, monkeypatch)
    text = " ".join(page.split())
    assert "The full model scores 100.0 %; keeping only 50 %" in text
    assert "| `uniform` | 6.7 | -33.3 |" in text
    assert "The samples do not tell any method from the full model." in text
    assert not re.search(CLAIM, text)
    assert "Independent samples in the smallest category: 1; resampling takes at least 5" in text
    for line in table:
        assert not any(
            value
            for name, value in line.items()
            if name.endswith(("_low", "_high", "_p", "_p_holm"))
        )


def test_a_star_takes_the_correction_into_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same cell, beside none and beside three that are as good as the control: same interval
    and p, other claim.
    """
    families, place = ["ab"[place % 2] for place in range(40)], np.arange(40)
    base, wave = np.full(40, 0.5), np.sin(place)
    scores = {"vanilla": base, "random": base, "uniform": base + 0.1 * wave + 0.022}
    scores |= dict.fromkeys(("visionzip", "prumerge", "fastv"), base + 0.1 * (-1.0) ** (place // 2))
    cast = {name: System(name, name, None) for name in scores}
    for name, system in cast.items():
        system.answers = [
            answer(i, float(one), families[i], None) for i, one in enumerate(scores[name])
        ]

    def line(folder: str, strategy: str) -> tuple[dict[str, str], str]:
        done = swept_from(cast, tmp_path / folder, monkeypatch, f"strategy={strategy}")
        table = csv.DictReader((tmp_path / folder / "results.csv").read_text().splitlines())
        return next(row for row in table if row["strategy"] == "uniform"), terminal(swept(done))

    alone, one = line("one", "uniform")
    among, four = line("four", "uniform,visionzip,prumerge,fastv")
    for key in ("to_random", "to_random_low", "to_random_high", "to_random_p"):
        assert alone[key] == among[key] != ""
    assert float(alone["to_random_low"]) > 0
    assert (
        float(alone["to_random_p_holm"])
        == float(alone["to_random_p"])
        <= 0.05
        < float(among["to_random_p_holm"])
    )
    assert (
        "] *" in one and "] *" not in four and "Holm's correction" in four and "4 to random" in four
    )


def test_very_many_comparisons_say_that_none_can_be_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = ["ab"[place % 2] for place in range(40)]
    cast = {s.label: s for s in systems(families, [None] * 40)}
    cast["uniform"] = cast.pop("dycoke")
    page, _ = study(cast, tmp_path, monkeypatch, STUDY + "resamples: 39\n")
    text = " ".join(page.split())
    assert "Above the full model: none. Below: none." in text
    assert (
        "2 comparisons are more than 39 resamples can claim any of after Holm's correction" in text
    )


def test_groups_are_in_every_record(tmp_path: Path) -> None:
    cast = systems(["a"] * 6, ["v0", "v0", "v1", "v1", None, None])
    run_folder(tmp_path / "run", cast, seed=0)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    ]
    assert [line["group"] for line in lines] == [
        "v0",
        "v0",
        "v1",
        "v1",
        None,
        None,
    ] and "group" not in lines[0]["strategy"]
    assert Answer.from_dict(cast[0].answers[0].as_dict()).group == "v0", "in the journal"
    old = {key: value for key, value in cast[0].answers[0].as_dict().items() if key != "group"}
    assert Answer.from_dict(old).group is None, "of a run from before there were groups"
