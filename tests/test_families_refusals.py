"""What a family cannot do is refused by its name, before anything is wrong, and with what to write
instead.
"""

from __future__ import annotations

from typing import Any

import pytest
import random_models
import torch
import towers
from families import FAMILIES
from family_stages import Early, Hide, Thin, left
from test_families import REGISTERED, check, everywhere, generated
from test_families_towers import Reader

from tokenprune import attach
from tokenprune.errors import (
    LayoutError,
    StrategyError,
    UnsupportedGenerationError,
    UnsupportedModelError,
)
from tokenprune.strategy import Pipeline
from tokenprune.tokens import Signals

AXES = [kind for kind in REGISTERED if FAMILIES[kind].mrope]
WITHOUT_CLS = [kind for kind in REGISTERED if not towers.SQUARE.get(kind, ("", False))[1]]


@pytest.mark.parametrize("kind", AXES)
def test_a_prompt_without_token_types(kind: str) -> None:
    """`generate` would read it along one axis, without a word; `forward` of some refuses itself."""
    model, prompt = FAMILIES[kind].model(), FAMILIES[kind].prompt()
    inputs = {name: part for name, part in prompt.inputs.items() if name != "mm_token_type_ids"}
    message = rf"{kind} .*pass mm_token_type_ids"
    with attach(model, Pipeline((Thin(),))):
        with pytest.raises(UnsupportedGenerationError, match=message):
            model.generate(**inputs, max_new_tokens=3)
        with pytest.raises((UnsupportedGenerationError, ValueError), match=r"mm_token_type_ids"):
            model(**inputs)
        answer = generated(model, prompt)
    check(model, FAMILIES[kind], prompt, answer, lambda number: left(prompt, number, (Thin(),)))


@pytest.mark.parametrize("kind", AXES)
def test_words_alone_need_no_token_types(kind: str) -> None:
    model, ids = FAMILIES[kind].model(), torch.randint(8, 64, (2, 12))
    stock = model.generate(ids, max_new_tokens=3, do_sample=False)
    with attach(model, "uniform"):
        assert torch.equal(model.generate(ids, max_new_tokens=3, do_sample=False), stock)


def test_a_tower_that_ends_within_windows() -> None:
    """Attention of different windows does not compare; what reads no tower works."""
    family = FAMILIES["qwen2_5_vl"]
    model, prompt = random_models.qwen2_5_vl(full_blocks=(1,)), family.prompt()
    refused = pytest.raises(UnsupportedModelError, match=r"last block .*qwen2_5_vl.* windows")
    with refused, attach(model, "visionzip"):
        generated(model, prompt)
    with attach(model, Pipeline((Thin(),))):
        answer = generated(model, prompt)
    check(model, family, prompt, answer, lambda number: left(prompt, number, (Thin(),)))


@pytest.mark.parametrize("kind", WITHOUT_CLS)
def test_a_tower_without_cls(kind: str) -> None:
    reader = Reader(wanted=Signals("cls", None))
    with pytest.raises(StrategyError, match=rf"saliency='cls' .*{kind} does not give: choose"):
        attach(FAMILIES[kind].model(), Pipeline((reader,)))


@everywhere
def test_a_placeholder_too_few(kind: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt()
    ids = prompt.inputs["input_ids"].clone()
    where = (ids[0] == family.placeholder).nonzero()[-1]
    ids[0, where] = 9
    inputs = {**prompt.inputs, "input_ids": ids}
    if family.types is not None:
        name, _ = family.types
        inputs[name] = prompt.inputs[name].clone()
        inputs[name][0, where] = 0
    refused = pytest.raises((LayoutError, ValueError), match=r"placeholder|tokens")
    with attach(model, Pipeline((Thin(), Early(2)))), refused:
        model(**inputs)


@pytest.mark.parametrize(
    ("stage", "nearest"),
    [
        (Early(1), r"write Early\.layer=2 or Early\.layer=4"),
        (Early(3), r"write Early\.layer=2 or Early\.layer=4"),
        (Hide(3), r"write Hide\.layer=2 or Hide\.layer=4"),
    ],
)
def test_a_stage_that_would_read_a_sliding_layer(stage: Any, nearest: str) -> None:
    """Far frames have no attention there."""
    with pytest.raises(StrategyError, match=rf"of this gemma3, which looks back 12 .*{nearest}"):
        attach(FAMILIES["gemma3"].model(), Pipeline((stage,)))
