"""VidCom2 against outputs of the authors' code."""

from __future__ import annotations

import pytest
from arbitrary import video
from golden_cases import array, close, named

from tokenprune.strategies.vidcom2 import VidCom2, likeness, rates


@pytest.mark.parametrize(("file", "case"), named(r"vidcom(\d+)_budget", of="vidcom2"))
def test_vidcom2(file: str, case: str) -> None:
    features, video_score, frame_score, scales, budget, frame, slot = (
        array(file, f"vidcom{case}_{name}")
        for name in (
            "features",
            "video_score",
            "frame_score",
            "scales",
            "budget",
            "frame",
            "slot",
        )
    )
    keep = float(array(file, f"vidcom{case}_keep"))
    tokens, strategy = video(features.flatten(0, 1), features.shape[1]), VidCom2(keep=keep)
    alike = likeness(tokens.features, tokens.counts, "released")
    close(alike.video, video_score)
    close(alike.frame, frame_score)
    close(rates(alike, keep, 0.01, "released"), scales)
    quota = strategy.quota(tokens)
    assert quota.tolist() == budget.tolist()
    kept = strategy.compress(tokens, quota)
    assert (kept.frame.tolist(), kept.slot.tolist()) == (frame.tolist(), slot.tolist())
