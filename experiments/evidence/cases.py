"""Methods at budgets, out of finished runs: what each kept and scored, beside `random`.

Axes: n samples, f frames, c cells of a frame (one visual token each).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from tokenprune.errors import ConfigError
from tokenprune.results.answer import VANILLA, Answer
from tokenprune.results.read import Run, Runs, read
from tokenprune.results.summary import Setting
from tokenprune.runtime.slots import unpack
from tokenprune.tasks.tinyvqa import TinyVQA

CONTROL = "random"
_APART = 0.02  # budgets that differ by no more are the same, as measured


@dataclass(frozen=True)
class Outcome:
    """One system on all samples."""

    label: str
    budget: float  # measured, mean over layers and samples
    kept: Bool[np.ndarray, "n f c"]  # tokens that reached the last layer as themselves
    scores: Float[np.ndarray, "n"]


@dataclass(frozen=True)
class Case:
    """A method and the control at its budget."""

    own: Outcome
    control: Outcome


@dataclass(frozen=True)
class Material:
    """Everything that was found in the runs."""

    task: TinyVQA
    indices: list[int]  # samples that every system answered
    categories: list[str]
    model: str
    dtype: str
    full: Outcome | None  # the full model, where a run has it
    controls: list[Outcome]  # by falling budget
    cases: list[Case]

    @property
    def cells(self) -> int:
        """Of a frame."""
        return self.controls[0].kept.shape[2]


def material(
    folders: Sequence[Path], budgets: Sequence[float], limit: int | None = None
) -> Material:
    """What runs and studies hold about methods near the `budgets`, all of them if none are named,
    on the first `limit` samples.

    ConfigError where they do not go together, or `random` was not asked.
    """
    runs = [run for folder in folders for run in _runs(folder)]
    setting = _agreed(runs)
    answered = [(run, role, run.answers(role)) for run in runs for role in run.roles]
    indices = _shared([answers for *_, answers in answered])[:limit]
    task = TinyVQA(samples=1 + max(indices), frames=setting.frames, seed=setting.seed)
    known = {answer.index: answer for answer in answered[0][2]}
    _same_questions(task, [known[index] for index in indices])
    systems = [
        _outcome(run.summary.systems[role].label, answers, indices)
        for run, role, answers in answered
        if role != VANILLA
    ]
    near = [one for one in systems if not budgets or _nearest(one.budget, budgets) <= _APART]
    full = [_outcome(VANILLA, answers, indices) for _, role, answers in answered if role == VANILLA]
    controls = sorted((one for one in near if one.label == CONTROL), key=lambda one: -one.budget)
    return Material(
        task,
        indices,
        [known[index].category for index in indices],
        setting.model,
        runs[0].summary.environment["dtype"],
        full[0] if full else None,
        controls,
        list(_cases(near, controls)),
    )


def _runs(folder: Path) -> Sequence[Run]:
    found = read(folder)
    return found.cells if isinstance(found, Runs) else [found]


def _agreed(runs: Sequence[Run]) -> Setting:
    """What was asked of all; ConfigError where it was not the same samples and model."""
    settings = [run.summary.setting for run in runs]
    asked = [(one.task, one.model, one.frames, one.seed) for one in settings]
    if not asked or asked[0][0] != TinyVQA.name or any(one != asked[0] for one in asked):
        raise ConfigError(
            "evidence is known of tinyvqa alone: name runs of it with one model, number of frames "
            "and seed"
        )
    return settings[0]


def _shared(answered: Sequence[Sequence[Answer]]) -> list[int]:
    """Indices of the samples that all systems answered."""
    sets = [{answer.index for answer in answers if answer.error is None} for answers in answered]
    if shared := sorted(set.intersection(*sets)):
        return shared
    raise ConfigError("no sample was answered by every system: name runs of the same samples")


def _same_questions(task: TinyVQA, answers: Sequence[Answer]) -> None:
    for answer in answers:
        if task.label(answer.index).question != answer.question:
            raise ConfigError(
                f"{answer.id} was another question when it was answered: run the methods again"
            )


def _outcome(label: str, answers: Sequence[Answer], indices: Sequence[int]) -> Outcome:
    by_index = {answer.index: answer for answer in answers}
    chosen = [by_index[index] for index in indices]
    return Outcome(
        label,
        float(np.mean([answer.tokens["layer_average_ratio"] for answer in chosen])),
        np.stack([_mask(answer) for answer in chosen]),
        np.array([answer.score for answer in chosen], dtype=float),
    )


def _mask(answer: Answer) -> Bool[np.ndarray, "f c"]:
    slots = unpack(answer.tokens)
    mask = np.zeros((len(slots), answer.tokens["full"] // len(slots)), dtype=bool)
    for frame, cells in enumerate(slots):
        mask[frame, cells] = True
    return mask


def _nearest(budget: float, budgets: Sequence[float]) -> float:
    return min(abs(budget - other) for other in budgets)


def _cases(systems: Sequence[Outcome], controls: Sequence[Outcome]) -> Iterator[Case]:
    """In the order of budgets, then of names."""
    if not controls:
        raise ConfigError(f"nothing can be compared with {CONTROL}: name a run of it as well")
    for control in controls:
        for own in sorted(systems, key=lambda one: one.label):
            same = abs(own.budget - control.budget) <= _APART
            if same and own.label != CONTROL:
                yield Case(own, control)
