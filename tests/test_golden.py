"""Outputs of the methods' released code, case by case: every case of every file in the golden
folder is one test, here or in a file beside this one.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from arbitrary import TableProbe, decode_attention, draws, later, video
from golden_cases import FILES, FOUND, array, close, listed, named
from torch import Tensor

from tokenprune import ops
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.prumerge import PruMerge
from tokenprune.strategies.visionzip import VisionZip, core, split
from tokenprune.tokens import TEXT, LastRow, SequenceView, VisualTokens


@pytest.mark.parametrize("case", listed("ttm"))
def test_dycoke_temporal_merging(case: dict[str, Any]) -> None:
    rows = draws(case["seed"], case["N"] * case["n"] + case["extra_tail_tokens"], case["D"])
    tokens = video(rows[: case["N"] * case["n"]], case["n"])  # the tail belongs to no frame
    strategy = DyCoke(merge=case["K"], follow="released")
    quota = strategy.quota(tokens)
    kept = strategy.compress(tokens, quota)
    assert int(quota[1]) == case["keep_per_frame"]
    assert (kept.frame * case["n"] + kept.slot).tolist() == case["kept"]
    assert torch.equal(kept.features, rows[case["kept"]])


@pytest.mark.parametrize("case", listed("dp"))
def test_dycoke_dynamic_pruning(case: dict[str, Any]) -> None:
    frame = torch.full((case["S"],), TEXT)
    frame[case["start"] : case["start"] + case["L"]] = 0
    prompt = SequenceView(frame, torch.arange(case["S"]), torch.zeros(case["S"]))
    strategy = DyCoke(prune=case["p"], follow="released")
    state, before = strategy.start(), None
    for expected in case["steps"]:
        attention = decode_attention(case, expected["step"])
        view = later(prompt, expected["step"], attention)
        visible, state = strategy.attend(view, state)
        seen = expected["kept_sorted"] if expected["pruned"] else list(range(expected["seq"]))
        assert len(visible) == expected["seq"]
        assert visible.nonzero().squeeze(-1).tolist() == seen
        similarity = 0.0 if before is None else float(ops.cosine(attention[view.visual], before))
        assert similarity == pytest.approx(expected["similarity"], abs=1e-5)
        before = attention[view.visual]


@pytest.mark.parametrize("case", listed("cases"))
def test_fastv(case: dict[str, Any]) -> None:
    frame = torch.full((case["length"],), TEXT)
    frame[case["start"] : case["start"] + case["visual"]] = (
        torch.arange(case["visual"]) * 4 // case["visual"]
    )
    attention = (4 * draws(case["seed"], case["heads"], case["length"])).softmax(-1).mean(0)
    view = SequenceView(frame, torch.arange(case["length"]), attention)
    strategy = FastV(drop=case["R"])
    quota = strategy.quota(view)
    assert int(quota.sum()) == case["keep_count"]
    assert view.position[strategy.prune(view, quota)].tolist() == case["keep"]


@pytest.mark.parametrize(
    ("file", "case", "output"), named(r"p(\d+)_(prumerge(?:_plus|_fixed_\d+_\d+)?)")
)
def test_prumerge(file: str, case: str, output: str) -> None:
    def of(name: str) -> Tensor:
        return array(file, f"p{case}_{name}").float()

    attention, hidden, expected = of("cls_attention"), of("hidden")[1:], of(output)
    tokens = video(hidden, len(hidden), attention, of("key")[1:])
    if fixed := re.fullmatch(r"prumerge_fixed_(\d+)_(\d+)", output):
        selected = int(len(hidden) * int(fixed[1]) / int(fixed[2]))
        strategy = PruMerge(keep=(selected + 1) / len(hidden))
    else:
        strategy = PruMerge(grid=output == "prumerge_plus")
        number = int(
            ops.outliers(attention.unsqueeze(0), torch.ones(1, len(hidden), dtype=torch.bool))
        )
        assert number == int(of("outliers"))
        top = array(file, f"p{case}_top")
        assert ops.ranking(attention)[:number].tolist() == top.tolist()
    merged = strategy.compress(tokens, strategy.quota(tokens))
    close(merged.features, expected)
    row = array(file, f"p{case}_query")[0] @ array(file, f"p{case}_key").T
    proxy = (row / hidden.shape[-1] ** 0.5).softmax(0)[1:].float()
    close(attention, proxy)


@pytest.mark.parametrize("case", listed())
def test_dytok_allocation(case: dict[str, Any]) -> None:
    weights = torch.tensor(case["frame_weights_per_layer"]).mean(0)
    torch.testing.assert_close(
        weights / weights.sum(), torch.tensor(case["normalised"]), rtol=1e-5, atol=1e-8
    )
    average = case["dominant"] + case["contextual"]
    cells = max(196, case["upper_limit"], average)
    tokens = video(torch.zeros(len(weights) * cells, 1), cells)
    host = VisionZip(keep=average / cells)
    budget = (host + DyToK(cap=case["upper_limit"], follow="released")).budget(
        host, tokens, weights
    )
    assert budget.tolist() == case["allocation"]
    dominant, contextual = split(budget)
    assert dominant == case["dominant_num"]
    assert contextual == case["contextual_num"]


@pytest.mark.parametrize(("file", "case"), named(r"c(\d+)_frame_weights"))
def test_dytok_frame_weights(file: str, case: str) -> None:
    queries, keys, expected = (
        array(file, f"c{case}_{n}") for n in ("q_last", "k", "frame_weights")
    )
    start, frames, tokens = array(file, f"c{case}_meta").tolist()
    rows = LastRow(queries.unsqueeze(0), keys[:, start : start + frames * tokens].unsqueeze(0))
    probe = TableProbe(rows, torch.arange(frames).repeat_interleave(tokens), frames)
    close(DyToK(layers=(0, 0)).weigh(probe), expected / expected.sum())


def check_visionzip(tokens: VisualTokens, dominant: Tensor, contextual: Tensor) -> VisualTokens:
    """The core, through the strategy where the case has its 6:1 split in every frame."""
    assert tokens.saliency is not None
    assert tokens.keys is not None
    first, rest = dominant.tolist(), contextual.tolist()
    zipped = core(tokens, tokens.saliency, tokens.keys, first, rest, "target_plus_mean")
    if split(dominant + contextual) == (first, rest):
        through = VisionZip().compress(tokens, dominant + contextual)
        assert torch.equal(through.features, zipped.features)
        assert torch.equal(through.slot, zipped.slot)
    return zipped


def zip_case(file: str, case: str) -> VisualTokens:
    hidden, score, key = (array(file, f"d{case}_{name}") for name in ("hidden", "score", "key"))
    return video(hidden.flatten(0, 1), hidden.shape[1], score.flatten(), key.flatten(0, 1))


def check_zipped(zipped: VisualTokens, frame: int, top: Tensor, out: Tensor) -> None:
    rows = zipped.frame == frame
    assert zipped.slot[rows][: len(top)].tolist() == sorted(top.tolist())
    close(zipped.features[rows], out)


@pytest.mark.parametrize(("file", "case", "frame"), named(r"d(\d+)_out(\d+)"))
def test_visionzip_dynamic(file: str, case: str, frame: str) -> None:
    dominant, contextual = (array(file, f"d{case}_{name}") for name in ("dominant", "contextual"))
    zipped = check_visionzip(zip_case(file, case), dominant, contextual)
    top, out = (array(file, f"d{case}_{name}{frame}") for name in ("topk", "out"))
    check_zipped(zipped, int(frame), top, out)


@pytest.mark.parametrize(
    ("file", "case", "dominant", "contextual"), named(r"s(\d+)_out_(\d+)_(\d+)")
)
def test_visionzip_static(file: str, case: str, dominant: str, contextual: str) -> None:
    tokens = zip_case(file, case)
    number = torch.ones(tokens.frames, dtype=torch.long)
    zipped = check_visionzip(tokens, int(dominant) * number, int(contextual) * number)
    tops, outs = (array(file, f"s{case}_{n}") for n in ("topk", f"out_{dominant}_{contextual}"))
    for frame, (top, out) in enumerate(zip(tops, outs, strict=True)):
        check_zipped(zipped, frame, top, out)


@pytest.mark.parametrize(("file", "mode"), named(r"(bilinear|average|max)_out"))
def test_pool2d(file: str, mode: Any) -> None:
    close(ops.pool2d(array(file, f"{mode}_in"), mode), array(file, f"{mode}_out"))


@pytest.mark.parametrize(("file", "case"), named(r"v(\d+)_out"))
def test_visionzip_with_cls(file: str, case: str) -> None:
    """The original on CLIP: CLS counts as one dominant token, and in front; images are frames."""
    attention, hidden, key, out, indices = (
        array(file, f"v{case}_{name}") for name in ("cls_attn", "hidden", "key", "out", "indices")
    )
    dominant, contextual = (
        int(array(file, f"v{case}_{name}")) for name in ("dominant_arg", "contextual")
    )
    images, patches = hidden.shape[0], hidden.shape[1] - 1
    saliency = attention[:, :, 1:].sum(1).flatten()
    tokens = video(hidden[:, 1:].flatten(0, 1), patches, saliency, key[:, 1:].flatten(0, 1))
    number = torch.ones(images, dtype=torch.long)
    zipped = check_visionzip(tokens, (dominant - 1) * number, contextual * number)
    slots = zipped.slot.unflatten(0, (images, -1))[:, : dominant - 1]
    assert (slots + 1).tolist() == indices.sort(-1).values[:, 1:].tolist()
    rows = torch.cat([hidden[:, :1], zipped.features.unflatten(0, (images, -1))], dim=1)
    close(rows, out)


def test_every_file_is_covered() -> None:
    for beside in sorted(Path(__file__).parent.glob("test_golden_*.py")):
        importlib.import_module(beside.stem)
    assert set(FILES) == FOUND
