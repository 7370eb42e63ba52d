"""Every registered family, compressed, is its own forward pass on the rows that are left.

The registry of families is the matrix of these tests: a family without a model here fails one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import handbuilt
import pytest
import torch
from families import FAMILIES, Family, Prompt
from family_rows import TEXT
from family_stages import Early, Hide, Late, Thin, frames_of, left, mixed
from handbuilt import Removal
from torch import Tensor

from tokenprune import attach
from tokenprune.adapters import families
from tokenprune.strategy import Pipeline

STEPS = 5
REGISTERED = [name for name in FAMILIES if name in families()]
everywhere = pytest.mark.parametrize("kind", REGISTERED)
kernels = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def test_every_registered_family_is_tested_here() -> None:
    assert set(families()) == set(REGISTERED)


def generated(model: Any, prompt: Prompt, **settings: Any) -> tuple[Tensor, Tensor]:
    """The words of an answer but the last `[b t]`, and the logits they were chosen from."""
    out = model.generate(
        **prompt.inputs,
        **{"max_new_tokens": STEPS, "do_sample": False, **settings},
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[:, -len(out.logits) : -1], torch.stack(out.logits, dim=1)


@torch.no_grad()
def check(
    model: Any,
    family: Family,
    prompt: Prompt,
    answer: tuple[Tensor, Tensor],
    removal: Callable[[int], Removal],
) -> None:
    """Every step of every sample is the hand-built one, and so are greedy words."""
    words, found = answer
    for number, inputs in enumerate(prompt.alone):
        sample = handbuilt.whole(model, family, inputs)
        expected = handbuilt.logits(model, sample, words[number], removal(number))
        difference = float((found[number] - expected).abs().max())
        assert difference < handbuilt.ROUNDING, (number, difference)
        assert torch.equal(expected[:-1].argmax(-1), words[number]), number


def stages_of(family: Family, which: str) -> tuple[Any, ...]:
    early, late = family.layers
    made = {"input": Thin(), "early": Early(early), "late": Late(late), "decode": Hide(late)}
    return tuple(made[word] for word in which.split("+"))


@everywhere
@pytest.mark.parametrize(
    ("which", "attention"),
    [
        ("input", "sdpa"),
        ("early", "sdpa"),
        ("late", "eager"),
        ("input+early+late", "sdpa"),
        ("input+early+decode", "eager"),
    ],
)
def test_rows_are_gone_and_nothing_else(kind: str, attention: str, which: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.model(attention), family.prompt()
    stages = stages_of(family, which)
    with attach(model, Pipeline(stages)) as session:
        answer = generated(model, prompt)
    check(model, family, prompt, answer, lambda number: left(prompt, number, stages))
    for number in prompt.videos():
        removal = left(prompt, number, stages)
        rows = removal.rows.get(max(removal.rows, default=0))
        assert told(session.report[number].slots) == cells(prompt, number, rows)


def cells(prompt: Prompt, sample: int, rows: Tensor | None) -> set[tuple[int, int]]:
    """Frame and cell of those rows that are visual; None is all rows."""
    real = prompt.inputs["attention_mask"][sample].bool()
    pairs = zip(
        prompt.frame[sample, real].tolist(), prompt.slot[sample, real].tolist(), strict=True
    )
    whole = list(pairs)
    chosen = whole if rows is None else [whole[row] for row in rows.tolist()]
    return {pair for pair in chosen if pair[0] != TEXT}


def told(slots: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    return {(frame, slot) for frame, kept in enumerate(slots) for slot in kept}


def rows_kept(prompt: Prompt, sample: int, slots: Sequence[Sequence[int]]) -> Tensor:
    """The rows of a sample of which a report tells the cells, and its text."""
    real = prompt.inputs["attention_mask"][sample].bool()
    kept = told(slots)
    pairs = zip(
        prompt.frame[sample, real].tolist(), prompt.slot[sample, real].tolist(), strict=True
    )
    marks = [frame == TEXT or (frame, slot) in kept for frame, slot in pairs]
    return torch.tensor(marks).nonzero().squeeze(-1)


@everywhere
@pytest.mark.parametrize("spec", ["uniform", "dycoke", "random+dytok"])
def test_strategies_at_the_input(kind: str, spec: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt()
    options = {"dycoke.prune": 0.0, "dycoke.layer": family.layers[1]} if spec == "dycoke" else None
    with attach(model, spec, options) as session:
        answer = generated(model, prompt)

    def removal(number: int) -> Removal:
        if number not in prompt.videos():
            return handbuilt.NOTHING
        return Removal({0: rows_kept(prompt, number, session.report[number].slots)})

    check(model, family, prompt, answer, removal)
    assert session.report[0].input_ratio < 1.0


@everywhere
@pytest.mark.parametrize(
    ("spec", "which"), [("fastv", 0), ("fastv+dytok", 1), ("uniform+fastv", 1)]
)
def test_strategies_in_a_layer(kind: str, spec: str, which: int) -> None:
    family = FAMILIES[kind]
    layer = family.layers[which]
    model, prompt = family.model(), family.prompt()
    first: list[Any] = []
    if "uniform" in spec:
        with attach(model, "uniform") as session:
            generated(model, prompt)
        first.append(session.report)
    with attach(model, spec, {"fastv.layer": layer}) as session:
        answer = generated(model, prompt)

    def removal(number: int) -> Removal:
        if number not in prompt.videos():
            return handbuilt.NOTHING
        rows = {layer: rows_kept(prompt, number, session.report[number].slots)}
        for report in first:
            rows[0] = rows_kept(prompt, number, report[number].slots)
        return Removal(rows)

    check(model, family, prompt, answer, removal)
    assert session.report[0].layers[layer] < session.report[0].layers[layer - 1]


@everywhere
def test_changed_features_are_where_the_stage_puts_them(kind: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt()
    stage = Thin(mixed=True)
    with attach(model, Pipeline((stage,))):
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample = handbuilt.whole(model, family, inputs)
        embeds, visual = sample.embeds.clone(), frames_of(prompt, number) != TEXT
        embeds[visual] = mixed(embeds[visual])
        removal = replace(left(prompt, number, (stage,)), embeds=embeds)
        expected = handbuilt.logits(model, sample, words[number], removal)
        assert torch.allclose(found[number], expected, atol=2e-5), number
