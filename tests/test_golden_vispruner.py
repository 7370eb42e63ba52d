"""VisPruner, and FasterVLM as its special case, against outputs of the authors' code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from arbitrary import video
from golden_cases import array, named

from tokenprune import ops
from tokenprune.strategies.vispruner import VisPruner


@pytest.mark.parametrize(("file", "case"), named(r"v(\d+)_kept", of="vispruner"))
def test_vispruner(file: str, case: str) -> None:
    features, attentions, expected, important = (
        array(file, f"v{case}_{name}") for name in ("features", "attentions", "kept", "important")
    )
    cells, saliency = features.shape[1], attentions.mean(1)
    number, share = int(array(file, f"v{case}_tokens")), float(array(file, f"v{case}_ratio"))
    tower = features.flatten(0, 1)
    strategy = VisPruner(keep=number / cells, important=share)
    tokens = replace(video(tower, cells, saliency.flatten()), tower=tower)
    kept = strategy.compress(tokens, strategy.quota(tokens))
    assert kept.slot.view_as(expected).tolist() == expected.tolist()
    first = ops.ranking(saliency)[:, : important.shape[1]]
    assert first.tolist() == important.tolist()
    # the same from the projector's input, whatever the projector makes of it
    other = replace(tokens, features=torch.ones_like(tower))
    kept = replace(strategy, follow="released").compress(other, strategy.quota(tokens))
    assert kept.slot.view_as(expected).tolist() == expected.tolist()


@pytest.mark.parametrize(("file", "case"), named(r"f(\d+)_kept", of="vispruner"))
def test_fastervlm(file: str, case: str) -> None:
    attentions, expected = array(file, f"f{case}_attentions"), array(file, f"f{case}_kept")
    images, _, cells = attentions.shape
    tokens = video(torch.zeros(images * cells, 1), cells, attentions.mean(1).flatten())
    strategy = VisPruner(keep=int(array(file, f"f{case}_tokens")) / cells, important=1.0)
    kept = strategy.compress(tokens, strategy.quota(tokens))
    assert kept.slot.view_as(expected).tolist() == expected.tolist()
