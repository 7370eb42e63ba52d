"""DivPrune against outputs of the authors' code."""

from __future__ import annotations

import pytest
from arbitrary import video
from golden_cases import array, named

from tokenprune import ops, picking
from tokenprune.strategies.divprune import DivPrune


@pytest.mark.parametrize(("file", "case"), named(r"d(\d+)_order", of="divprune"))
def test_divprune(file: str, case: str) -> None:
    features, expected = array(file, f"d{case}_features"), array(file, f"d{case}_order")
    frames, cells = array(file, f"d{case}_meta").tolist()
    tokens, strategy = video(features, cells), DivPrune(keep=float(array(file, f"d{case}_ratio")))
    assert tokens.frames == frames
    number = ops.count(len(tokens), strategy.keep)
    vectors = picking.unit(features)
    picks = picking.farthest(vectors, tokens.frame, tokens.counts, number)
    assert picks.tolist() == expected.tolist()
    quota = strategy.quota(tokens)
    assert quota.tolist() == (expected // cells).bincount(minlength=frames).tolist()
    kept = strategy.compress(tokens, quota)
    assert (kept.frame * cells + kept.slot).tolist() == sorted(expected.tolist())
