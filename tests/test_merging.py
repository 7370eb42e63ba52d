"""Numbers worked out in the method descriptions of PruMerge and VisionZip, and the controls."""

from __future__ import annotations

from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import blank, draws, video
from hypothesis import given
from hypothesis import strategies as st

from tokenprune import ops, resembling
from tokenprune.errors import StrategyError
from tokenprune.strategies.prumerge import PruMerge
from tokenprune.strategies.random import Random
from tokenprune.strategies.uniform import Uniform
from tokenprune.strategies.visionzip import VisionZip, core, split
from tokenprune.tokens import VisualTokens


def g1() -> VisualTokens:
    n, c = torch.arange(576, dtype=torch.float64), torch.arange(16, dtype=torch.float64)
    u = (0.37 * c).cos()
    s = torch.where((n % 37 == 5) | (n % 53 == 11), 2.0 + 0.03 * (n % 29), 0.02 * (n % 7))
    key = s.unsqueeze(-1) * u + 0.6 * (0.11 * (n + 1).unsqueeze(-1) * (c + 1)).sin()
    hidden = (0.013 * (n + 1).unsqueeze(-1) * (c + 1)).sin() + 0.1 * c
    row = (torch.cat([0.2 * u.unsqueeze(0), key]) @ (0.5 * u) / 4).softmax(0)[1:]
    return video(hidden.float(), 576, row.float(), key.float())


TOP = """
375 170 227 488 486 79 541 190 117 11 449 42 301 64 276 560 5 153 329 412 338 382 264 523 223 435
116 118 61 403 346 460 289 517 461 232 4 3 175 575 60 404 518 174 347 574 290 454 397 340 233 55 54
111 283 231 226
293 398
"""


def check_rows(out: VisualTokens, number: int, total: float, rows: dict[int, list[float]]) -> None:
    assert len(out) == number
    for row, expected in rows.items():
        torch.testing.assert_close(out.features[row, :3], torch.tensor(expected), rtol=0, atol=2e-6)
    assert float(out.features.double().sum()) == pytest.approx(total, abs=2e-3)


def run(strategy: PruMerge, tokens: VisualTokens) -> VisualTokens:
    return strategy.compress(tokens, strategy.quota(tokens))


def test_prumerge_g1() -> None:
    tokens = g1()
    attention, top = tokens.saliency, [int(index) for index in TOP.split()]
    assert attention is not None
    first = torch.tensor([0.00096622176, 0.00093749133, 0.00129049224, 0.00198178541])
    torch.testing.assert_close(attention[:4], first, rtol=0, atol=1e-9)
    assert ops.outliers(attention.unsqueeze(0), torch.ones(1, 576, dtype=torch.bool)).tolist() == [
        59
    ]
    first_rows = {0: [-0.937624413, -0.178161714, 1.150862015]}

    out = run(PruMerge(), tokens)
    assert out.slot[:59].tolist() == top
    rows = {
        1: [0.808153985, -0.789377484, 0.671826724],
        58: [-0.843373559, -0.678980805, 0.386609452],
        59: [0.057292487, 0.135510383, 0.180737123],
    }
    check_rows(out, 60, 958.9025393668, first_rows | rows)

    out = run(PruMerge(grid=True), tokens)
    assert out.slot[:59].tolist() == top
    assert out.slot[59:64].tolist() == [0, 6, 9, 12, 15]
    assert out.slot[234:237].tolist() == [567, 570, 573]
    rows = {
        59: [0.015061589, 0.132735279, 0.244957750],
        60: [0.103546679, 0.299533345, 0.499841589],
        236: [0.949584597, 0.820274592, -0.187249732],
        237: [0.043624821, 0.088420371, 0.116828417],
    }
    check_rows(out, 238, 3291.9810183930, first_rows | rows)

    rows = {72: [0.052027780, 0.130773170, 0.173983727]}
    check_rows(run(PruMerge(keep=73 / 576), tokens), 73, 1122.6275143817, first_rows | rows)


def test_prumerge_g3_the_interquartile_rule() -> None:
    rows = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 100], [1] * 9, [100, 100, 1, 2, 3, 4, 5, 6, 7]])
    valid = torch.ones(3, 9, dtype=torch.bool)
    assert ops.outliers(rows.float(), valid).tolist() == [1, 1, 2]  # a constant row: at least one
    assert ops.outliers(3 * rows.float() + 5, valid).tolist() == [
        1,
        1,
        2,
    ]  # any positive affine map
    valid[2, 0] = False
    assert ops.outliers(rows.float(), valid).tolist() == [1, 1, 1]


@pytest.mark.parametrize("grid", [False, True])
def test_prumerge_frames_are_independent_and_ragged(grid: bool) -> None:
    one, strategy = g1(), PruMerge(grid=grid)
    assert one.saliency is not None
    assert one.keys is not None
    flat = video(one.features, 576, torch.ones(576), one.keys)
    both = VisualTokens(
        torch.cat([one.features, flat.features]),
        torch.cat([one.keys, one.keys]),
        torch.cat([one.saliency, torch.ones(576)]),
        torch.arange(2).repeat_interleave(576),
        one.slot.repeat(2),
        2,
        576,
    )
    out = run(strategy, both)
    for frame, alone in enumerate((run(strategy, one), run(strategy, flat))):
        assert torch.equal(out.slot[out.frame == frame], alone.slot)
        torch.testing.assert_close(out.features[out.frame == frame], alone.features)


def test_prumerge_permuting_patches_permutes_the_choice() -> None:
    tokens, order = g1(), torch.randperm(576, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run(PruMerge(), tokens[order]).slot, run(PruMerge(), tokens).slot)


def test_prumerge_plus_selects_a_grid_without_the_last_index() -> None:
    attention = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1])
    tokens = video(draws(1, 10, 3), 10, attention, draws(2, 10, 2))
    # every third, then the extra token
    assert run(PruMerge(grid=True), tokens).slot.tolist() == [4, 0, 3, 6, 1]


def authors_plus(tokens: VisualTokens) -> tuple[list[int], torch.Tensor]:
    """The released PruMerge+ on one frame, in plain loops: what is selected, and the merged rows
    with the extra one.
    """
    assert tokens.saliency is not None and tokens.keys is not None
    a, x, n = tokens.saliency.double(), tokens.features.double(), len(tokens)
    first, third = (torch.quantile(a, share) for share in (0.25, 0.75))
    number = int((a > third + 1.5 * (third - first)).sum())
    step = int(1 / (number / n))
    top = a.argsort(descending=True)[:number].tolist()
    selected = top + [i for i in range(0, n - 1, int(step / 3)) if i not in top]
    rest = [i for i in range(n) if i not in selected]
    unit = torch.nn.functional.normalize(tokens.keys.double())
    rows = []
    for i in selected:
        others = torch.tensor([j for j in range(n) if j != i])
        near = others[(unit[others] @ unit[i]).topk(min(32, n - 1)).indices]
        rows.append(x[i] + (a[near].unsqueeze(-1) * x[near]).sum(0))
    rows.append((a[rest].unsqueeze(-1) * x[rest]).sum(0))
    return selected, torch.stack(rows)


@pytest.mark.parametrize("last", [0.1, 0.9])
def test_prumerge_plus_merges_where_the_rule_keeps_all_tokens(last: float) -> None:
    """Many outliers put every token but the last on the grid; the last one is an outlier, too, or
    is not.
    """
    attention = torch.full((20,), 0.1) + 0.001 * torch.arange(20)
    attention[[2, 5, 7, 11, 19]] = torch.tensor([0.91, 0.95, 0.92, 0.94, last])
    tokens = video(draws(1, 20, 3), 20, attention, draws(2, 20, 6))
    selected, rows = authors_plus(tokens)
    assert len(selected) == (20 if last > 0.5 else 19)
    out = run(PruMerge(grid=True), tokens)
    assert out.slot.tolist() == [*selected, 19][:20]
    torch.testing.assert_close(out.features, rows[:20].float(), rtol=1e-5, atol=1e-5)
    asked = PruMerge(grid=True, keep=1.0)
    assert torch.equal(run(asked, tokens).features, tokens.features), (
        "a full budget that was asked for"
    )


def test_prumerge_merges_two_tokens_into_the_outlier_and_the_extra_one() -> None:
    tokens = video(
        torch.tensor([[1.0, 2.0], [3.0, 5.0]]), 2, torch.tensor([0.25, 0.5]), torch.ones(2, 1)
    )
    out = run(PruMerge(), tokens)
    assert out.slot.tolist() == [1, 0]
    assert out.features.tolist() == [[3.25, 5.5], [0.25, 0.5]]
    assert torch.equal(run(PruMerge(keep=1.0), tokens).features, tokens.features)


def test_prumerge_plus_under_an_allocator_stays_whole_where_the_rule_keeps_less() -> None:
    attention = torch.tensor([0.1] * 15 + [0.9])
    tokens = video(draws(1, 16, 3), 16, attention, draws(2, 16, 2))
    assert int(PruMerge(grid=True).quota(tokens)) < 15
    assert torch.equal(
        PruMerge(grid=True).compress(tokens, torch.tensor([16])).features, tokens.features
    )


def test_prumerge_plus_with_a_fixed_share_is_half_outliers_half_grid() -> None:
    attention = torch.arange(16).flip(0).float()
    tokens = video(draws(1, 16, 3), 16, attention, draws(2, 16, 2))
    assert run(PruMerge(keep=0.5, grid=True), tokens).slot.tolist() == [0, 1, 2, 3, 6, 10, 14, 4]


def test_prumerge_tiny_frames_have_fewer_neighbours() -> None:
    tokens = video(draws(1, 5, 3), 5, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]), draws(2, 5, 2))
    out = PruMerge().compress(tokens, torch.tensor([1]))
    mean = (tokens.features[:4] * torch.tensor([0.1, 0.2, 0.3, 0.4]).unsqueeze(-1)).sum(0)
    assert out.slot.tolist() == [4]
    torch.testing.assert_close(out.features[0], tokens.features[4] + mean)


def test_prumerge_neighbour_ties_go_to_the_lower_index() -> None:
    tokens = video(torch.eye(64), 64, torch.linspace(0.1, 0.2, 64), torch.ones(64, 2))
    out = PruMerge().compress(tokens, torch.tensor([1]))
    assert out.features[0].nonzero().squeeze(-1).tolist() == [*range(32), 63]


# --- visionzip and the controls
# -------------------------------------------------------------------------------------


def test_visionzip_check_values() -> None:
    tokens = video(draws(3, 16, 3), 16, draws(103, 16), draws(203, 16, 4))
    targets, alone = [0, 4, 11], [-0.607947, -0.633334, -0.212909]
    merges: dict[Any, list[list[float]]] = {
        "target_plus_mean": [
            [-0.977285, 0.072182, 1.535374],
            [0.047381, 0.402665, 0.584619],
            alone,
        ],
        "mean": [[-0.488642, 0.036091, 0.767687], [-0.022834, 0.001472, 0.227203], alone],
    }
    for merge, rows in merges.items():
        out = zipped(tokens, 6, 3, merge)
        assert out.slot.tolist() == [1, 5, 6, 8, 10, 13, *targets]
        assert torch.equal(out.features[:6], tokens.features[out.slot[:6]])
        torch.testing.assert_close(out.features[6:], torch.tensor(rows), rtol=0, atol=1e-6)


def zipped(tokens: VisualTokens, dominant: int, contextual: int, merge: Any) -> VisualTokens:
    assert tokens.saliency is not None
    assert tokens.keys is not None
    return core(tokens, tokens.saliency, tokens.keys, [dominant], [contextual], merge)


def test_visionzip_key_scale_and_half_precision_do_not_matter() -> None:
    saliency, keys, features = draws(1, 3 * 49), draws(2, 3 * 49, 8), 400 * draws(3, 3 * 49, 16)
    budget = torch.tensor([14, 0, 30])
    plain = VisionZip().compress(video(features, 49, saliency, keys), budget)
    scaled = VisionZip().compress(video(features, 49, saliency, 8 * keys), budget)
    assert torch.equal(plain.features, scaled.features)
    half = VisionZip().compress(video(features.half(), 49, saliency, keys), budget)
    torch.testing.assert_close(half.features, plain.features.half(), rtol=2e-3, atol=1.0)


def test_visionzip_sums_of_many_followers_do_not_overflow() -> None:
    tokens = video(
        torch.full((729, 2), 300.0, dtype=torch.float16), 729, torch.ones(729), torch.ones(729, 2)
    )
    assert VisionZip().compress(tokens, torch.tensor([1])).features.tolist() == [[600.0, 600.0]]


def test_missing_signals_are_named() -> None:
    for strategy in (VisionZip(), PruMerge()):
        for tokens in (blank(1, 4), video(torch.zeros(4, 1), 4, saliency=torch.ones(4))):
            with pytest.raises(
                StrategyError,
                match=rf"{strategy.name} reads .*: VisualTokens\(\.\.\., (keys|saliency)=",
            ):
                strategy.compress(tokens, torch.tensor([2]))


def test_controls() -> None:
    tokens = blank(3, 8)
    assert Uniform(keep=0.5).quota(tokens).tolist() == [4, 4, 4]
    assert Uniform().compress(tokens, torch.tensor([4, 1, 8])).slot.tolist() == [
        1,
        3,
        5,
        7,
        4,
        *range(8),
    ]
    drawn = [
        Random(seed=seed).compress(tokens, torch.tensor([4, 4, 4])).slot.tolist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@given(st.data())
def test_visionzip_says_who_went_where(data: st.DataObject) -> None:
    """A merged row is the mean of its members, and who has no row to join goes nowhere."""
    tokens = data.draw(arbitrary.visual_tokens())
    budget = data.draw(arbitrary.budgets(tokens.counts))
    kept = VisionZip(merge="mean").compress(tokens, budget)
    members = kept.members
    assert members is not None
    _, contextual = split(budget)
    nowhere = members < 0
    assert not bool(nowhere[members.new_tensor(contextual)[tokens.frame] > 0].any())
    sums = torch.zeros_like(kept.features).index_add_(
        0, members[~nowhere], tokens.features[~nowhere]
    )
    number = torch.bincount(members[~nowhere], minlength=len(kept))
    torch.testing.assert_close(kept.features, sums / number.unsqueeze(-1), rtol=1e-4, atol=1e-5)
    assert torch.equal(kept.frame[members[~nowhere]], tokens.frame[~nowhere])


@pytest.mark.parametrize("left", [0, 1, 255, 256, 257, 700])
def test_the_token_before_in_its_cell(left: int) -> None:
    """However many blocks there are, and with tokens missing."""
    generator = torch.Generator().manual_seed(left)
    whole = video(torch.randn(800, 5, generator=generator), 40)
    tokens = whole[torch.randperm(800, generator=generator)[:left].sort().values]
    order, similar = resembling.to_previous(tokens.features, tokens.slot)
    address = (tokens.slot * 20 + tokens.frame)[order]
    assert torch.equal(address, address.sort().values)
    rows, cell = tokens.features[order], tokens.slot[order]
    expected = torch.full((left,), -torch.inf)
    same = (cell[1:] == cell[:-1]).nonzero().squeeze(1) + 1
    expected[same] = ops.cosine(rows[same], rows[same - 1])
    torch.testing.assert_close(similar, expected)
