"""An assistant whose vision tower equals the model's takes over what that has made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from families import FAMILIES
from test_families import everywhere

from tokenprune import attach
from tokenprune.adapters import adapt
from tokenprune.adapters.borrowed import Lent, equal_towers
from tokenprune.runtime.guide import Guide
from tokenprune.runtime.hooks import Hook
from tokenprune.runtime.report import Report


def assistant(kind: str, equal: bool = True) -> Any:
    """Another model of the family, whose tower is a copy of the usual one's, or its own."""
    family = FAMILIES[kind]
    other = family.build("sdpa", 1)
    if equal:
        adapt(other).tower.load_state_dict(adapt(family.model()).tower.state_dict())
    return other


@contextmanager
def calls(module: torch.nn.Module) -> Iterator[list[int]]:
    """One entry for each call of a module."""
    made: list[int] = []
    handle = module.register_forward_pre_hook(lambda *_: made.append(1))
    yield made
    handle.remove()


def guided(kind: str, other: Any, spec: str = "uniform+dytok") -> tuple[Report, list[int]]:
    """What a batch reports, and the calls of the assistant's tower."""
    family = FAMILIES[kind]
    with (
        attach(family.model(), spec, assistant=other) as session,
        calls(adapt(other).tower) as made,
    ):
        family.model()(**family.prompt().inputs)
    return session.report, made


@everywhere
@torch.no_grad()
def test_equal_towers_look_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = assistant(kind)
    report, made = guided(kind, other)
    assert not made
    assert report.probe.shared
    with monkeypatch.context() as patched:
        patched.setattr(Guide, "shares", False)
        alone, made = guided(kind, other)
    assert made
    assert not alone.probe.shared
    for one, own in zip(report.samples, alone.samples, strict=True):
        assert (one and one.frame_weights) == (own and own.frame_weights)


@everywhere
@torch.no_grad()
def test_an_assistant_with_another_tower_looks_for_itself(kind: str) -> None:
    other = assistant(kind)
    weight = next(iter(adapt(other).tower.parameters()))
    weight.view(-1)[-1] += 1e-3
    report, made = guided(kind, other)
    assert made
    assert not report.probe.shared


def test_towers_are_compared_by_what_they_compute() -> None:
    kind = "llava_onevision"
    one, other = FAMILIES[kind].model(), assistant(kind)
    towers = adapt(one).tower, adapt(other).tower
    assert equal_towers(*towers)
    assert not equal_towers(towers[0], adapt(assistant(kind, equal=False)).tower)
    other.model.vision_tower.config.layer_norm_eps *= 2
    assert not equal_towers(*towers), "equal weights, another computation"
    other.model.vision_tower.config.layer_norm_eps /= 2
    assert equal_towers(*towers)
    other.bfloat16()
    assert not equal_towers(*towers), "rounded weights"


def test_a_projector_that_reads_another_layer_gets_its_own_tower() -> None:
    other = assistant("llava_onevision")
    other.config.vision_feature_layer = -2
    report, made = guided("llava_onevision", other)
    assert made
    assert not report.probe.shared


@torch.no_grad()
def test_videos_looked_at_once_share_the_tower_too() -> None:
    family, other = FAMILIES["llava_onevision"], assistant("llava_onevision")
    model, inputs = family.model(), dict(family.prompt().inputs)
    tower = adapt(other).tower
    with attach(model, "uniform+dytok", assistant=other) as session, calls(tower) as made:
        seen = session.encode(pixel_values_videos=inputs.pop("pixel_values_videos"))
        for _ in range(2):
            model(**inputs, **seen)
    assert not made
    assert all(report.probe.shared for report in session.reports)
    assert session.reports[0][0].frame_weights == session.reports[1][0].frame_weights


def test_nothing_stays_on_the_models() -> None:
    other = assistant("llava_onevision")
    guided("llava_onevision", other)
    for model in (other, FAMILIES["llava_onevision"].model()):
        for module in model.modules():
            hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
            assert not any(isinstance(hook, Hook) for hook in hooks)
            assert "forward" not in vars(module)
            assert not any(isinstance(part, Lent) for part in module._modules.values())
