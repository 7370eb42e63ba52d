"""Scores are float32 under autocast too, and a model's own layers keep the caller's autocast."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from arbitrary import video
from models import llava_onevision, prompt, shallow

from tokenprune import attach, ops, picking, registry
from tokenprune.precision import exact, full_precision
from tokenprune.resembling import nearest_tokens
from tokenprune.runtime.attention import last_row, mean_query, received
from tokenprune.strategies import cdpruner, divprune, vidcom2, vispruner
from tokenprune.strategies.dycoke import similarity
from tokenprune.strategies.dytok import frame_weights
from tokenprune.strategies.visionzip import plan
from tokenprune.strategy import Allocator, TowerStage, VisionStage
from tokenprune.tokens import LastRow

HALF = torch.bfloat16


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planned():
    counts, number = torch.full((3,), 36), [4, 4, 4]
    return plan(drawn(108).abs(), drawn(108, 64, seed=1), counts, number, number).leader


FUNCTIONS = {
    "last_row": lambda: last_row(drawn(1, 4, 16), drawn(1, 2, 300, 16, seed=1), 0.25, None),
    "received": lambda: received(drawn(2, 3, 36, 8), drawn(2, 3, 36, 8, seed=1), 0.3),
    "mean_query": lambda: mean_query(drawn(2, 3, 36, 8), drawn(2, 3, 36, 8, seed=1)),
    "cosine": lambda: ops.cosine(drawn(50, 64), drawn(50, 64, seed=1)),
    "pool2d": lambda: ops.pool2d(drawn(3, 36, 5), "bilinear"),
    "dycoke": lambda: similarity(drawn(8, 36, 64)),
    "dycoke, anchors": lambda: similarity(drawn(8, 36, 64), anchors=True),
    "dytok": lambda: frame_weights(
        LastRow(drawn(2, 4, 16), drawn(2, 2, 40, 16, seed=1)),
        torch.arange(4).repeat_interleave(10),
        4,
    ),
    "prumerge": lambda: nearest_tokens(
        drawn(3, 36, 64),
        torch.ones(3, 36, dtype=torch.bool),
        drawn(3, 36, seed=1).argsort(-1)[:, :4],
        8,
    )[0],
    "visionzip": planned,
    "picking": lambda: picking.farthest(
        picking.unit(drawn(600, 24)), torch.zeros(600).long(), torch.tensor([600]), 60
    ),
    "divprune": lambda: divprune.picks(
        picking.unit(drawn(3, 36, 24)), torch.ones(3, 36).bool(), torch.full((3,), 9)
    ),
    "cdpruner": lambda: cdpruner.relevances(drawn(99, 64), drawn(3, 64, seed=1)),
    "vispruner": lambda: vispruner.diverse(
        picking.unit(drawn(3, 36, 24)),
        torch.arange(36).expand(3, -1),
        torch.full((3,), 36),
        torch.full((3,), 9),
    ),
    "vidcom2": lambda: vidcom2.likeness(drawn(99, 24), torch.full((3,), 33), "released").frame,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scores_are_the_same_inside_and_outside_autocast(name):
    plain = FUNCTIONS[name]()
    with torch.autocast("cpu", HALF):
        inside = FUNCTIONS[name]()
    assert inside.dtype == plain.dtype
    assert torch.equal(inside, plain)


@pytest.mark.parametrize(
    "name", [name for name in registry.names() if issubclass(registry.get(name), VisionStage)]
)
def test_every_vision_stage_keeps_the_same_tokens_under_autocast(name):
    stage: Any = registry.get(name)()
    tokens = video(drawn(6 * 36, 24), 36, drawn(6 * 36, seed=1).abs(), drawn(6 * 36, 32, seed=2))
    tokens = replace(tokens, text=drawn(3, 24, seed=3))
    budget = stage.quota(tokens)
    plain = stage.compress(tokens, budget)
    with torch.autocast("cpu", HALF):
        inside = stage.compress(tokens, budget)
    assert torch.equal(inside.slot, plain.slot)
    assert torch.equal(inside.features, plain.features)


@pytest.mark.parametrize("name", registry.names())
def test_a_whole_model_runs_under_autocast(name):
    """Reference: every stage gets float32 scores, and the model's own products are in half
    precision.
    """
    model, inputs, kinds = llava_onevision(), prompt(6, ((4, 5), (2, 8))), set()
    spec = f"visionzip+{name}" if issubclass(registry.get(name), Allocator) else name
    watch = model.model.language_model.layers[1].self_attn.q_proj.register_forward_hook(
        lambda module, args, output: kinds.add(output.dtype)
    )
    with attach(model, spec, shallow(name)) as session, torch.autocast("cpu", HALF):
        out = model.generate(**inputs, max_new_tokens=4, do_sample=False, use_cache=True)
    watch.remove()
    assert out.shape[1] == inputs["input_ids"].shape[1] + 4
    assert kinds == {HALF}, "the probe of an allocator as well"
    report = session.report[0]
    inside = issubclass(registry.get(name), TowerStage)  # which leaves as many tokens
    assert inside or report.kept < report.full or report.layers[-1] < report.full


def test_autocast_is_lent_back_and_restored():
    assert exact(lambda a: (a @ a.mT).dtype)(drawn(3, 3)) == torch.float32
    with torch.autocast("cpu", HALF):
        with full_precision() as autocast:
            assert not torch.is_autocast_enabled("cpu")
            with autocast():
                assert (drawn(3, 3) @ drawn(3, 3)).dtype == HALF
            assert (drawn(3, 3) @ drawn(3, 3)).dtype == torch.float32
        with pytest.raises(RuntimeError), full_precision():
            raise RuntimeError
        assert (drawn(3, 3) @ drawn(3, 3)).dtype == HALF
    with full_precision() as autocast, autocast():
        assert not torch.is_autocast_enabled("cpu")
