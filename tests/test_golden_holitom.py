"""HoliTom beside its released code: merging at the input, and inside the language model."""

from __future__ import annotations

import pytest
import torch
from arbitrary import video
from golden_cases import array, close, named

from tokenprune import standing
from tokenprune.sequence import TEXT, Recorded, SequenceView, Survivors
from tokenprune.strategies.holitom import HoliTom


@pytest.mark.parametrize(("file", "case"), named(r"holitom(\d+)_features"))
def test_condense(file: str, case: str) -> None:
    def of(name: str) -> torch.Tensor:
        return array(file, f"holitom{case}_{name}")

    x, attention = of("features"), of("attention").flatten()
    keep, similarity, beta, neighbours, window = of("settings").tolist()
    strategy = HoliTom(
        keep, similarity, beta, int(neighbours), int(window), drop=0.0, follow="released"
    )
    tokens = video(x.flatten(0, 1), x.shape[1], attention)
    out = strategy.condense(tokens)
    assert torch.equal(out.frame, of("frame"))
    assert torch.equal(out.slot, of("slot"))
    close(out.features, of("out"), atol=1e-4)

    same = standing.unchanged(x, similarity).tolist()
    scenes, saved = standing.scenes(same, int(window))
    ends = [[scene.first, scene.first + scene.frames - 1] for scene in scenes]
    assert torch.equal(torch.tensor(ends), of("segments"))
    assert saved == of("reduced")
    assert min(keep / ((len(tokens) - saved) / len(tokens)), 1.0) == of("ratio")


@pytest.mark.parametrize(("file", "case"), named(r"holimerge(\d+)_hidden"))
def test_prune(file: str, case: str) -> None:
    def of(name: str) -> torch.Tensor:
        return array(file, f"holimerge{case}_{name}")

    hidden, (start, visual) = of("hidden"), of("meta").tolist()
    frame = torch.full((len(hidden),), TEXT)
    frame[start : start + visual] = torch.arange(visual) * 3 // visual  # all are one pool
    attention, position = of("attention").mean(0), torch.arange(len(frame))
    view = SequenceView(frame, position, attention, reading=Recorded(hidden))
    strategy = HoliTom(drop=float(of("drop")), follow="released")
    out = strategy.prune(view, strategy.quota(view))
    if not isinstance(out, Survivors):  # everything, or nothing, is left
        out = Survivors(out.nonzero().squeeze(-1), hidden[out])
    assert torch.equal(out.rows, of("keep"))
    assert out.hidden is not None
    close(out.hidden, of("out"))
