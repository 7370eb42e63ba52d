"""DART's released selection: pivots, the order in which they are visited, and who is kept."""

from __future__ import annotations

import pytest
import torch
from golden_cases import array, named

from tokenprune import ops
from tokenprune.sequence import TEXT, Recorded, SequenceView
from tokenprune.strategies.dart import DART


@pytest.mark.parametrize(("file", "case"), named(r"a(\d+)_meta", of="dart"))
def test_the_released_selection(file: str, case: str) -> None:
    start, visual, behind = array(file, f"a{case}_meta").tolist()
    hidden, keys = (array(file, f"a{case}_{name}") for name in ("hidden", "keys"))
    pictures, words = array(file, f"a{case}_pivots").tolist()
    frame = torch.full((start + visual + behind,), TEXT)
    frame[start : start + visual] = torch.arange(visual) * 4 // visual
    view = SequenceView(
        frame,
        torch.arange(len(frame)),
        layer=2,
        depth=32,
        seen=torch.tensor([visual, visual]),
        reading=Recorded(normed=hidden, hidden=-hidden, keys=keys.transpose(0, 1)),
    )
    keep = int(array(file, f"a{case}_retain")) / visual
    strategy = DART(keep=keep, visual_pivots=pictures, text_pivots=words, follow="released")

    norm = view.keys.abs().sum(dim=(1, 2))
    of_video, of_text = (array(file, f"a{case}_{name}_pivots") for name in ("image", "text"))
    for found, rows in ((of_video, view.visual), (of_text, view.behind)):
        here = rows.nonzero().squeeze(-1)
        assert here[ops.ranking(norm[here])[: len(found)]].tolist() == found.tolist()
    order = list(set(of_video.tolist() + of_text.tolist()))
    assert order == array(file, f"a{case}_order").tolist()

    quota = strategy.quota(view)
    kept = strategy.prune(view, quota) & view.visual
    assert kept.nonzero().squeeze(-1).tolist() == array(file, f"a{case}_kept").tolist()
    assert int(quota.sum()) == int(kept.sum())
