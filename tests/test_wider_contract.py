"""What the wider contract adds, against the forward pass that is written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import handbuilt
import pytest
import torch
from families import ALL, FAMILIES, Ask, Family, Prompt
from family_stages import Hide, frames_of, mixed, thinned
from handbuilt import Removal
from test_families import check, generated
from torch import Tensor

from tokenprune import attach
from tokenprune.errors import StrategyError
from tokenprune.sequence import SequenceView, Survivors
from tokenprune.strategy import Pipeline, PrefillStage

everyone = pytest.mark.parametrize("family", ALL, ids=[family.model_type for family in ALL])
whole = [family for family in ALL if family.model_type != "gemma3"]
wholly = pytest.mark.parametrize("family", whole, ids=[family.model_type for family in whole])


@dataclass(frozen=True)
class Twice(PrefillStage):
    """Leaves two of three visual rows, again at every layer it is told."""

    at: tuple[int, ...] = (1, 2)

    def layers(self, depth: int) -> tuple[int, ...]:
        return self.at

    def quota(self, view: SequenceView) -> Tensor:
        return torch.bincount(view.frame[view.visual & thinned(view.visual)], minlength=view.frames)

    def prune(self, view: SequenceView, budget: Tensor) -> Any:
        return thinned(view.visual)


@dataclass(frozen=True)
class Forgetful(Twice):
    forgets: ClassVar[bool] = True


@dataclass(frozen=True)
class Renumbered(Twice):
    positions: ClassVar[Any] = "contiguous"


@dataclass(frozen=True)
class Merging(Twice):
    """Rows become half of the row before them, and go on in reverse if asked."""

    reverse: bool = False

    def prune(self, view: SequenceView, budget: Tensor) -> Any:
        rows = thinned(view.visual).nonzero().squeeze(-1)
        hidden = view.hidden.clone()
        visual = view.visual.nonzero().squeeze(-1)
        hidden[visual] = mixed(view.hidden[visual])
        if self.reverse:
            places = view.visual[rows]
            rows[places] = rows[places].flip(0)
        return Survivors(rows, hidden[rows])


@dataclass(frozen=True)
class Reads(PrefillStage):
    """Writes down everything that a view offers, and keeps all rows."""

    layer: int = 1
    views: list[dict[str, Any]] = field(default_factory=list, hash=False)

    def quota(self, view: SequenceView) -> Tensor:
        return view.counts

    def prune(self, view: SequenceView, budget: Tensor) -> Tensor:
        last = torch.tensor([len(view.frame) - 1])
        behind = view.behind.nonzero().squeeze(-1)
        self.views.append(
            {
                "attention": view.attention,
                "again": view.attend(last),
                "mean": view.attend(behind),
                "alone": torch.stack([view.attend(row[None]) for row in behind]),
                "largest": view.attend(view.behind, "max"),
                "hidden": view.hidden,
                "normed": view.normed,
                "keys": view.keys,
                "inputs": view.inputs,
                "behind": behind,
                "position": view.position,
                "seen": view.seen,
                "slot": view.slot,
                "frame": view.frame,
                "cells": view.cells,
            }
        )
        return torch.ones_like(view.visual)


def twice(
    prompt: Prompt, at: tuple[int, ...], reverse: bool = False, **more: Any
) -> Callable[[int], Removal]:
    """Of each sample, what is left where two of three visual rows go, again and again."""

    def removal(number: int) -> Removal:
        frame = frames_of(prompt, number)
        here, rows = torch.arange(len(frame)), {}
        for layer in at:
            # in a view frames stand in order whatever went on how
            here = here.sort().values
            here = here[thinned(frame[here] >= 0)]
            if reverse:
                visual = frame[here] >= 0
                here[visual] = here[visual].flip(0)
            rows[layer] = here
        return Removal(rows, **more)

    return removal


def asked(family: Family) -> tuple[Any, Prompt]:
    asks = [Ask(4, (family.clips[0],), 5), Ask(1, (family.clips[1],), 4)]
    return family.model("sdpa"), family.prompt(asks)


def gone(prompt: Prompt, number: int, rows: Tensor) -> Tensor:
    """Rows of a sample that are not among `rows`."""
    lost = torch.ones(len(frames_of(prompt, number)), dtype=torch.bool)
    lost[rows] = False
    return lost.nonzero().squeeze(-1)


@everyone
def test_a_stage_at_several_layers(family: Family) -> None:
    model, prompt = asked(family)
    early, late = family.layers
    with attach(model, Pipeline((Twice((early, late)),))) as session:
        answer = generated(model, prompt)
    check(model, family, prompt, answer, twice(prompt, (early, late)))
    report = session.report[0]
    assert [stage.layer for stage in report.stages] == [early, late]
    assert report.layers[early - 1] == report.full > report.layers[early] > report.layers[late]


@everyone
def test_an_event_that_keeps_everything_opens_no_layout(family: Family) -> None:
    model, prompt = asked(family)
    stage = Reads(family.layers[0])
    with attach(model, Pipeline((stage,))) as session:
        answer = generated(model, prompt)
    assert torch.equal(answer[1], generated(model, prompt)[1]), "the stock model's, bit for bit"
    assert set(session.report[0].layers) == {session.report[0].full}


@everyone
@pytest.mark.parametrize("reverse", [False, True])
def test_rows_that_become_others(family: Family, reverse: bool) -> None:
    """Hidden states go on as the stage has made them, in its order and at their own positions."""
    model, prompt = asked(family)
    early, late = family.layers
    with attach(model, Pipeline((Merging((early, late), reverse),))) as session:
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample, frame = handbuilt.whole(model, family, inputs), frames_of(prompt, number)

        def becomes(rows: Tensor, hidden: Tensor, frame: Tensor = frame) -> Tensor:
            visual = (rows < len(frame)).nonzero().squeeze(-1)
            visual = visual[frame[rows[visual]] >= 0]
            visual = visual[rows[visual].argsort()]
            hidden = hidden.clone()
            hidden[visual] = mixed(hidden[visual])
            return hidden

        removal = twice(prompt, (early, late), reverse, becomes=becomes)(number)
        with torch.no_grad():
            expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < 2e-5
    assert all(stage.merged for stage in session.report[0].stages)
    assert session.report[0].merged


@wholly
@pytest.mark.parametrize("hiding", [False, True])
def test_layers_below_forget(family: Family, hiding: bool) -> None:
    """Words see in every layer what the last event left; the prompt went through whole."""
    model, prompt = asked(family)
    early, late = family.layers
    at = (early,) if hiding else (early, late)
    stages = (Forgetful(at), Hide(late)) if hiding else (Forgetful(at),)
    with attach(model, Pipeline(stages)) as session:
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample, frame = handbuilt.whole(model, family, inputs), frames_of(prompt, number)
        rows = twice(prompt, at)(number).rows
        kept = rows[at[-1]]
        unseen = (late, kept[~thinned(frame[kept] >= 0)]) if hiding else None
        removal = Removal(rows, unseen=unseen, forgotten=gone(prompt, number, kept))
        with torch.no_grad():
            expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < 2e-5
    assert session.report[0].layers[0] == session.report[0].full


def test_layers_with_a_window_cannot_forget() -> None:
    family = FAMILIES["gemma3"]
    with pytest.raises(StrategyError, match="sliding window have forgotten others"):
        attach(family.model("sdpa"), Pipeline((Forgetful((family.layers[0],)),)))


flat = [family for family in ALL if not family.mrope]


@pytest.mark.parametrize("family", flat, ids=[family.model_type for family in flat])
def test_positions_counted_anew_inside_the_model(family: Family) -> None:
    model, prompt = asked(family)
    with attach(model, Pipeline((Renumbered(family.layers),))):
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample = handbuilt.whole(model, family, inputs)
        removal = twice(prompt, family.layers, anew=True)(number)
        with torch.no_grad():
            expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < 2e-5


def test_three_axes_are_not_counted_anew() -> None:
    family = FAMILIES["qwen2_vl"]
    with pytest.raises(StrategyError, match=r"three \(M-RoPE\)"):
        attach(family.model("sdpa"), Pipeline((Renumbered((1,)),)))
