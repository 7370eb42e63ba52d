"""The experiment on evidence: which tokens show what is asked about, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.evidence.answers import Answers
from experiments.evidence.cases import Case, Material, Outcome
from experiments.evidence.cells import asked_about, evidence, shown
from experiments.evidence.effects import CELLS, EVIDENCE, REST, TOTAL, Study
from experiments.evidence.files import as_csv
from experiments.evidence.page import Findings, page
from experiments.evidence.select import Dose, dosed, transplanted
from tokenprune.tasks.questions import CATEGORIES
from tokenprune.tasks.tinyvqa import TinyVQA

FRAMES, CELLS_OF_A_FRAME = 16, 36


def test_a_cell_shows_an_object_that_owns_enough_of_it() -> None:
    owner = torch.full((2, 96, 96), -1)
    owner[:, 0:16, 16:32] = 1  # the second cell, whole
    owner[:, 95, 95] = 1  # one pixel of the last
    owner[:, 32:48, 0:16] = 2
    asked = torch.tensor([[False, True, False], [False, False, False]])
    found = shown(owner, asked, CELLS_OF_A_FRAME)
    assert found.nonzero().tolist() == [[0, 1]]


def test_evidence_lies_in_the_frames_that_the_task_names() -> None:
    task = TinyVQA(samples=3 * len(CATEGORIES), frames=FRAMES)
    known = 0
    for index in range(len(task)):
        _, question = task.question(index)
        found = evidence(task, index, CELLS_OF_A_FRAME)
        frames = found.any(1).nonzero().flatten().tolist()
        assert frames
        if question.evidence:
            known += 1
            assert set(frames) <= set(question.evidence)
    assert known


@pytest.mark.parametrize(("category", "objects"), [("colour", 1), ("order", 2), ("flash", 1)])
def test_a_question_is_about_what_it_names(category: str, objects: int) -> None:
    place = list(CATEGORIES).index(category)
    task = TinyVQA(samples=4 * len(CATEGORIES), frames=FRAMES)
    for index in range(place, len(task), len(CATEGORIES)):
        _, question, scenes, _ = task.scene(index)
        assert asked_about(question.text, scenes).any(0).sum() == objects


def test_what_something_becomes_is_seen_once_it_has() -> None:
    place = list(CATEGORIES).index("state")
    task = TinyVQA(samples=len(CATEGORIES), frames=FRAMES)
    _, question, scenes, _ = task.scene(place)
    asked = asked_about(question.text, scenes)
    (number,) = asked.any(0).nonzero().flatten().tolist()
    (thing,) = (thing for thing in scenes.things()[0] if thing.becomes != thing.colour)
    turned = list(range(thing.turn, thing.last + 1))
    assert asked[:, number].nonzero().flatten().tolist() == turned


def test_a_dose_keeps_as_much_evidence_as_was_asked() -> None:
    shows = np.zeros((FRAMES, CELLS_OF_A_FRAME), dtype=bool)
    shows[:8, :4] = True
    budget = np.full(FRAMES, 9)
    for share in (0.0, 0.25, 1.0):
        kept = dosed(shows, Dose(share), budget, 0)
        assert (kept.sum(1) == 9).all()
        assert (kept & shows).sum() == share * shows.sum()
    together = dosed(shows, Dose(0.5, together=True), budget, 0) & shows
    assert sorted(together.sum(1).tolist()) == [0] * 12 + [4] * 4


def test_evidence_that_does_not_fit_is_left_out_and_none_is_kept_but_for_want_of_others() -> None:
    shows = np.ones((1, 4), dtype=bool)
    shows[0, 3] = False
    assert dosed(shows, Dose(1.0), np.array([2]), 0).sum() == 2
    assert dosed(shows, Dose(0.0), np.array([2]), 0)[0, 3]


def test_a_transplant_has_the_methods_evidence_and_the_rest_of_random() -> None:
    chance = np.random.default_rng(0)
    shows, own, control = chance.random((3, FRAMES, CELLS_OF_A_FRAME)) < 0.3
    kept = transplanted(shows, own, control, 0)
    assert kept.sum() == control.sum()
    assert ((kept & shows) == (own & shows)).all()
    others = kept & ~shows
    assert (others <= control).all() or ((control & ~shows) <= others).all()
    assert (transplanted(shows, control, control, 5) == control).all()


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two categories of six samples; the method keeps no evidence, `random` half of it."""
    samples, frames, cells = 12, 8, 4
    shows = np.zeros((samples, frames, cells), dtype=bool)
    shows[:, :2, :2] = True
    control, own = (np.zeros_like(shows) for _ in range(2))
    control[:, :, ::2] = True
    own[:, :, 2:] = True
    right = np.arange(samples) % 4 > 0
    baseline = Outcome("random", 0.5, control, right.astype(float))
    method = Outcome("blind", 0.5, own, np.zeros(samples))
    task = TinyVQA(samples=samples, frames=frames)
    names = ["colour", "flash"] * (samples // 2)
    case = Case(method, baseline)
    indices = list(range(samples))
    found = Material(task, indices, names, "tiny", "float32", None, [baseline], [case])
    return Study(found, shows, _Knowing(tmp_path / "answers.jsonl", task, shows, right))


class _Knowing(Answers):
    """A model that is right where it sees evidence, if the control was."""

    def __init__(self, file: Path, task: TinyVQA, shows: np.ndarray, right: np.ndarray) -> None:
        super().__init__(file, task, "tiny", "float32", 48)
        object.__setattr__(self, "shows", shows)
        object.__setattr__(self, "right", right)

    def scores(self, wanted: list[tuple[int, np.ndarray]]) -> list[float]:  # pyright: ignore
        shows, right = vars(self)["shows"], vars(self)["right"]
        return [float((mask & shows[index]).any() and right[index]) for index, mask in wanted]


def test_shares_of_what_is_kept(study: Study) -> None:
    case = study.found.cases[0]
    blind, half = study.kept(case.own.kept), study.kept(case.control.kept)
    assert (blind.tokens, blind.evidence, blind.frames, blind.brief) == (0.5, 0.0, 0.0, 0.0)
    assert (half.tokens, half.evidence, half.frames, half.brief) == (0.5, 0.5, 1.0, 1.0)


def test_the_steps_add_up_and_say_what_is_to_blame(study: Study) -> None:
    doses, (effect,) = study.measure()
    steps = {name: found.value for name, found in effect.steps.items()}
    assert steps[TOTAL] == pytest.approx(steps[EVIDENCE] + steps[CELLS] + steps[REST])
    assert steps[EVIDENCE] == pytest.approx(-0.75)
    assert steps[CELLS] == steps[REST] == 0
    assert doses[0].score.value == 0 < doses[2].score.value


def test_the_page_says_so_in_eighty_columns(study: Study) -> None:
    doses, effects = study.measure()
    findings = Findings(study.found, study.baselines(), doses, effects)
    text = page(findings, "python -m experiments.evidence runs/x", "evidence")
    assert "`blind` keeps 0.0 % of the evidence" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert page(findings, "python -m experiments.evidence runs/x", "evidence") == text
    assert as_csv(findings).count("\n") == 1 + 1 + len(doses) + 1


def test_the_model_is_asked_about_the_same_tokens_once(tmp_path: Path) -> None:
    task = TinyVQA(samples=1, frames=8)
    answers = Answers(tmp_path / "answers.jsonl", task, "tiny", "float32", 4)
    everything = np.ones((8, CELLS_OF_A_FRAME), dtype=bool)
    nothing = dosed(everything, Dose(0.0), np.full(8, 1), 0)
    first = answers.scores([(0, everything), (0, nothing), (0, everything)])
    assert first[0] == first[2]
    before = answers.file.read_bytes()
    assert answers.scores([(0, nothing), (0, everything)]) == [first[1], first[0]]
    assert answers.file.read_bytes() == before
