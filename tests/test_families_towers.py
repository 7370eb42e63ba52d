"""What strategies read in the tower of every registered family, cell by cell, from full attention
maps; also where one packed call attends to all frames, as flash attention wants it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import torch
import towers
from families import FAMILIES
from family_rows import Inputs
from family_stages import Shown
from test_families import REGISTERED
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from tokenprune import attach
from tokenprune.strategy import Pipeline, TowerReader
from tokenprune.tokens import Signals

SQUARE = [kind for kind in REGISTERED if kind in towers.SQUARE]
GRIDS = [kind for kind in REGISTERED if FAMILIES[kind].mrope]
PACKED = "flash_attention_stub"
SIGNALS = [Signals("received", "head_mean"), Signals("mean_query", "full")]


@dataclass(frozen=True)
class Reader(Shown, TowerReader):
    """Writes down what was read of the tower."""

    wanted: Signals = field(default=Signals())

    def signals(self) -> Signals:
        return self.wanted


def read(model: Any, inputs: Inputs, signals: Signals) -> list[tuple[Tensor, Tensor]]:
    reader = Reader(wanted=signals)
    with attach(model, Pipeline((reader,))), torch.no_grad():
        model(**inputs)
    return [
        (reader.recorded(one, "saliency"), reader.recorded(one, "keys")) for one in reader.tokens
    ]


def check(found: list[tuple[Tensor, Tensor]], expected: list[tuple[Tensor, Tensor]]) -> None:
    for (saliency, keys), (its_saliency, its_keys) in zip(found, expected, strict=True):
        assert torch.allclose(saliency, its_saliency, atol=1e-6)
        assert torch.allclose(keys, its_keys, atol=1e-5)
        assert float(saliency.std() / saliency.mean()) > 0.02, "cells differ"


@pytest.fixture
def flash() -> Iterator[str]:
    """A kernel that takes all frames in one call, and their borders, and knows no mask."""

    def kernel(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **given: Any
    ) -> tuple[Tensor, None]:
        assert attention_mask is None
        outputs = []
        for ends in pairwise(given["cu_seq_lens_q"].tolist()):
            query_, key_, value_ = (part[:, :, slice(*ends)] for part in (query, key, value))
            outputs.append(functional.scaled_dot_product_attention(query_, key_, value_))
        return torch.cat(outputs, dim=2).transpose(1, 2), None

    AttentionInterface.register(PACKED, kernel)
    yield PACKED
    del AttentionInterface._global_mapping[PACKED]


@pytest.mark.parametrize("signals", SIGNALS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", GRIDS)
def test_a_tower_of_patches(kind: str, attention: str, signals: Signals) -> None:
    model, prompt = FAMILIES[kind].model(attention), FAMILIES[kind].prompt()
    query, key = towers.packed(model, prompt.inputs)
    expected = towers.of_cells(query, key, FAMILIES[kind].clips, *map(str, signals[:2]))
    check(read(model, prompt.inputs, signals), expected)


@pytest.mark.parametrize("signals", SIGNALS)
@pytest.mark.parametrize("kind", GRIDS)
def test_one_packed_call(kind: str, signals: Signals, flash: str) -> None:
    model, prompt = FAMILIES[kind].build(), FAMILIES[kind].prompt()
    expected = read(model, prompt.inputs, signals)
    model.model.visual.config._attn_implementation = flash
    check(read(model, prompt.inputs, signals), expected)


def test_every_tower_is_one_of_them() -> None:
    assert set(SQUARE) | set(GRIDS) == set(REGISTERED)


@pytest.mark.parametrize("kind", [kind for kind in SQUARE if towers.SQUARE[kind][1]])
def test_what_cls_attends_to(kind: str) -> None:
    model, prompt = FAMILIES[kind].model(), FAMILIES[kind].prompt()
    expected = towers.of_frames(model, prompt.inputs, FAMILIES[kind].clips, "cls", "full")
    check(read(model, prompt.inputs, Signals("cls", "full")), expected)


@pytest.mark.parametrize("signals", SIGNALS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", SQUARE)
def test_a_tower_of_square_frames(kind: str, attention: str, signals: Signals) -> None:
    model, prompt = FAMILIES[kind].model(attention), FAMILIES[kind].prompt()
    clips = FAMILIES[kind].clips
    expected = towers.of_frames(model, prompt.inputs, clips, *map(str, signals[:2]))
    check(read(model, prompt.inputs, signals), expected)
