"""Numbers worked out in the method descriptions of FastV and DyToK, and the published counts of
DyCoke.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from arbitrary import TableProbe, blank, draws

from tokenprune import ops
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.strategies.dytok import DyToK, frame_weights
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.visionzip import VisionZip, split
from tokenprune.tokens import TEXT, LastRow, SequenceView

# --- counts
# ----------------------------------------------------------------------------------

KEPT_OF_196 = {
    0.1: 176,
    0.2: 156,
    0.25: 147,
    0.3: 137,
    0.4: 117,
    0.5: 98,
    0.6: 78,
    0.7: 58,
    0.75: 49,
    0.8: 39,
    0.9: 19,
    0.95: 9,
    1.0: 0,
}
FLOAT_TRAP = {
    (100, 0.55): 44,
    (100, 0.8): 19,
    (100, 0.9): 9,
    (360, 0.3): 251,
    (360, 0.55): 161,
    (360, 0.65): 125,
    (360, 0.8): 71,
    (360, 0.9): 35,
    (210, 0.8): 41,
    (210, 0.9): 20,
}
PAPER = {0.3: 4856, 0.5: 3920, 0.7: 2960, 0.9: 2024, 1.0: 1568}
RELEASED = {
    0.3: {8: 1273, 16: 2487, 32: 4915, 64: 9771},
    0.5: {
        8: 1078,
        16: 2058,
        32: 4018,
        64: 7938,
        5: 490,
        6: 784,
        7: 784,
        9: 980,
        12: 1568,
        15: 1764,
        17: 1960,
        18: 2254,
        20: 2548,
        31: 3724,
        33: 3920,
        48: 5978,
    },
    0.7: {8: 878, 16: 1618, 32: 3098, 64: 6058},
    0.9: {8: 683, 16: 1189, 32: 2201, 64: 4225},
    1.0: {8: 588, 16: 980, 32: 1764, 64: 3332},
}
DECODE = [
    (3097, 0.7, 929),
    (3097, 0.8, 619),
    (3097, 0.9, 309),
    (2960, 0.7, 888),
    (2960, 0.8, 591),
    (2960, 0.9, 295),
    (2200, 0.8, 439),
]


def test_dycoke_keep_counts() -> None:
    for merge, kept in KEPT_OF_196.items():
        assert ops.count(196, 1 - merge, "down") == kept
        assert int(DyCoke(merge=merge).quota(blank(2, 196))[1]) == kept


def test_the_float_trap_is_the_published_one() -> None:
    for (cells, merge), kept in FLOAT_TRAP.items():
        assert ops.count(cells, 1 - merge, "down") == kept
        assert ops.count(torch.tensor([cells]), 1 - merge, "down").tolist() == [kept]
    for cells in (49, 64, 81, 144, 169, 196, 256, 576, 729):
        for twentieth in range(21):
            assert ops.count(cells, 1 - twentieth / 20, "down") == cells * (20 - twentieth) // 20


def test_count_inverts_exact_fractions() -> None:
    for cells in (1, 7, 196, 729):
        assert [ops.count(cells, kept / cells) for kept in range(cells + 1)] == list(
            range(cells + 1)
        )
    assert [ops.count(n, 0.5) for n in (1, 3, 575, 577)] == [0, 2, 288, 288]  # half to even


@pytest.mark.parametrize(("keep", "whole"), [(0.25, 62), (0.2, 49), (0.15, 37), (0.1, 25)])
def test_a_ratio_may_round_up_and_have_a_factor(keep: float, whole: int) -> None:
    """FlashVID's vision budgets: products from left to right, in doubles."""
    assert ops.count(196, keep, "up", 1.25) == whole
    assert ops.count(torch.tensor([196, 0]), keep, "up", 1.25).tolist() == [whole, 0]
    assert ops.count(196, 1.0, "up", 1.25) == 196  # never more than there are
    each = torch.tensor([keep, 1.0], dtype=torch.float64)
    assert ops.count(torch.tensor([196, 7]), each, "up", 1.25).tolist() == [whole, 7]
    assert ops.count(25, 0.28, "up") == 8  # the double lies above 7
    assert ops.count(torch.tensor([1, 3, 575, 577]), 0.5).tolist() == [0, 2, 288, 288]
    assert ops.count(576, 1 - 0.778) == 128
    with pytest.raises(ValueError, match="between 0 and 1"):
        ops.count(3, 1.1)


@pytest.mark.parametrize("merge", PAPER)
def test_dycoke_token_counts(merge: float) -> None:
    assert int(DyCoke(merge=merge).quota(blank(32, 196)).sum()) == PAPER[merge]
    for frames, total in RELEASED[merge].items():
        assert int(DyCoke(merge=merge, follow="released").quota(blank(frames, 196)).sum()) == total


def test_decode_counts() -> None:
    for rows, prune, kept in DECODE:
        view = SequenceView(torch.zeros(rows, dtype=torch.long), torch.arange(rows), draws(1, rows))
        strategy = DyCoke(prune=prune)
        assert int(strategy.attend(view, strategy.start())[0].sum()) == kept


# --- fastv
# ----------------------------------------------------------------------------------


def test_fastv_selection() -> None:
    j, h = torch.arange(60), torch.arange(4).unsqueeze(-1)
    attention = (1.5 + (0.7 * j + 0.3 * h + 0.05 * 59).sin() + 0.001 * j).mean(0)
    frame = torch.full((60,), TEXT)
    frame[5:45] = torch.arange(40) // 10
    view, strategy = SequenceView(frame, j, attention), FastV(drop=0.75)
    order = ops.ranking(attention.masked_fill(~view.visual, -1))[:10]
    assert order.tolist() == [42, 33, 24, 15, 6, 43, 34, 25, 16, 7]
    quota = strategy.quota(view)
    assert quota.tolist() == [2, 3, 3, 2]
    kept = [6, 7, 15, 16, 24, 25, 33, 34, 42, 43]
    assert strategy.prune(view, quota).nonzero().squeeze(-1).tolist() == [
        *range(5),
        *kept,
        *range(45, 60),
    ]
    # with an allocator: the best of each frame
    per_frame = strategy.prune(view, torch.tensor([1, 0, 4, 5]))
    assert (per_frame & view.visual).nonzero().squeeze(-1).tolist() == [
        6,
        25,
        32,
        33,
        34,
        35,
        41,
        42,
        43,
        44,
    ]


def test_fastv_a_frame_can_lose_everything_and_text_is_untouched() -> None:
    view = SequenceView(
        torch.tensor([TEXT, 0, 0, 1, 1, TEXT]),
        torch.arange(6),
        torch.tensor([0.5, 0, 0, 0.3, 0.2, 0]),
    )
    assert FastV().quota(view).tolist() == [0, 2]
    text = SequenceView(torch.full((3,), TEXT), torch.arange(3), torch.ones(3) / 3)
    assert FastV().prune(text, FastV().quota(text)).all()


# --- dytok
# ----------------------------------------------------------------------------------

WEIGHTS = [0.113, 0.371, 0.062, 0.041, 0.207, 0.121, 0.0537, 0.0313]
SHARES = [
    ("released", 49, 196, [44, 146, 24, 16, 81, 48, 21, 12]),
    ("paper", 49, 196, [44, 146, 24, 16, 81, 48, 21, 12]),
    ("released", 49, 98, [51, 98, 31, 23, 88, 55, 28, 18]),
    ("paper", 49, 98, [51, 98, 32, 22, 88, 55, 28, 18]),
    ("released", 49, 60, [60, 60, 44, 36, 60, 60, 41, 31]),
    ("paper", 49, 60, [60, 60, 45, 35, 60, 60, 41, 31]),
    ("released", 14, 196, [13, 41, 7, 5, 23, 14, 6, 3]),
    ("paper", 14, 196, [13, 41, 7, 5, 23, 14, 6, 3]),
]


@pytest.mark.parametrize(("follow", "average", "cap", "share"), SHARES)
def test_dytok_worked_examples(follow: Any, average: int, cap: int, share: list[int]) -> None:
    tokens, host = blank(8, 196), VisionZip(keep=average / 196)
    budget = (host + DyToK(cap=cap, follow=follow)).budget(host, tokens, torch.tensor(WEIGHTS))
    tied = [13, 42, 7, 5, 23, 13, 6, 3]  # an exact-arithmetic tie that float32 decides
    assert budget.tolist() == share or (average == 14 and budget.tolist() == tied)


def test_visionzip_split() -> None:
    budget = torch.tensor([0, 1, 2, 7, 49, 78, 31, 196])
    dominant, contextual = split(budget)
    assert dominant == [0, 0, 1, 6, 42, 66, 26, 168]
    assert contextual == [0, 1, 1, 1, 7, 12, 5, 28]


def test_dytok_weights_heads_equally_and_ignores_what_shifts_a_head() -> None:
    queries, keys = (
        draws(1, 2 * 4, 3).reshape(2, 4, 3),
        draws(2, 2 * 2 * 12, 3).reshape(2, 2, 12, 3),
    )
    frame = torch.arange(4).repeat_interleave(3)
    weights = frame_weights(LastRow(queries, keys), frame, 4)
    repeated = keys.repeat_interleave(2, dim=1)
    attention = (
        (repeated @ queries.unsqueeze(-1)).squeeze(-1).div(math.sqrt(3)).softmax(-1).mean((0, 1))
    )
    torch.testing.assert_close(weights, attention.reshape(4, 3).sum(-1))
    # the same logit added to all keys of a head
    shifted = keys + draws(3, 2 * 2, 3).reshape(2, 2, 1, 3)
    torch.testing.assert_close(frame_weights(LastRow(queries, shifted), frame, 4), weights)


@pytest.mark.parametrize(
    ("depth", "follow", "first"),
    [(24, "paper", 16), (28, "paper", 19), (24, "released", 0), (1, "paper", 0)],
)
def test_dytok_reads_the_last_third(depth: int, follow: Any, first: int) -> None:
    asked: list[int] = []

    class Recorder(TableProbe):
        def last_row(self, layers: Any) -> LastRow:
            asked.extend(layers)
            return super().last_row(layers)

    rows = LastRow(
        draws(1, depth, 2).reshape(depth, 1, 2), draws(2, depth * 4, 2).reshape(depth, 1, 4, 2)
    )
    DyToK(follow=follow).weigh(Recorder(rows, torch.arange(4), 4))
    assert asked == list(range(first, depth))
