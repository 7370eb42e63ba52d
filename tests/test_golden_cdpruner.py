"""CDPruner against outputs of the authors' code, whose embeddings come from CLIP's two towers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from arbitrary import video
from golden_cases import array, close, named
from torch import Tensor

from tokenprune import picking
from tokenprune.strategies.cdpruner import CDPruner, picks, relevances


def picked(features: Tensor, weight: Tensor, number: int) -> Tensor:
    """Of every image by itself, `number` tokens in the order of picking."""
    images, tokens, _ = features.shape
    frame = torch.arange(images).unsqueeze(1).expand(images, tokens)
    room, free = torch.full((images,), number), torch.ones(images, tokens, dtype=torch.bool)
    return picks(picking.unit(features), weight, number, frame, room, free)


@pytest.mark.parametrize(("file", "case"), named(r"c(\d+)_order", of="cdpruner"))
def test_cdpruner(file: str, case: str) -> None:
    features, image, text, expected, kept, order = (
        array(file, f"c{case}_{name}")
        for name in ("features", "image_embeds", "text_embeds", "relevance", "kept", "order")
    )
    number = int(array(file, f"c{case}_tokens"))
    weight = relevances(image.flatten(0, 1), text, sign=-1).view_as(expected)
    close(weight, expected)
    found = picked(features, weight, number)
    assert found.tolist() == order.tolist()
    assert found.sort().values.tolist() == kept.tolist()


@pytest.mark.parametrize(("file", "case"), named(r"c(\d+)_features", of="cdpruner"))
def test_the_strategy_is_made_of_these_parts(file: str, case: str) -> None:
    """With relevance from its own source, which no released code has."""
    features, number = array(file, f"c{case}_features"), int(array(file, f"c{case}_tokens"))
    images, cells, width = features.shape
    words = array(file, f"c{case}_text_embeds").repeat(1, width)[:, :width]
    tokens = replace(video(features.flatten(0, 1), cells), text=words)
    strategy = CDPruner(keep=number / cells)
    kept = strategy.compress(tokens, strategy.quota(tokens))
    weight = relevances(tokens.features, words).view(images, cells)
    expected = picked(features, weight, number).sort().values
    assert kept.slot.view_as(expected).tolist() == expected.tolist()
    plain = replace(strategy, relevance="none").compress(tokens, strategy.quota(tokens))
    expected = picked(features, torch.ones(images, cells), number).sort().values
    assert plain.slot.view_as(expected).tolist() == expected.tolist()
