"""Layers of one model on several devices, under every strategy: nothing meets on two of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES
from models import llava_onevision, prompt
from torch import Tensor
from two_devices import FIRST, SECOND, Devices, Placed, spread

from tokenprune import attach

# how many layers of five are on the first device: FastV reads layer 1 and drops rows before layer 2
SPLITS = [1, 2]


def answered(model: Any, spec: str, inputs: dict[str, Tensor]) -> tuple[Tensor, Any]:
    """Logits of an answer `[steps b v]`, and the report's rows."""
    with attach(model, spec) as session:
        made = model.generate(
            **inputs,
            max_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack([step.cpu() for step in made.logits]), session.report[0].slots


def test_the_two_devices_are_two() -> None:
    """The test's own tool: what was not moved is an error, and what was is not."""
    one, other = (Placed(torch.ones(2, 2), place) for place in (FIRST, SECOND))
    with Devices():
        with pytest.raises(RuntimeError, match=r"is given tensors on \['cuda:0', 'cuda:1'\]"):
            torch.add(one, other)
        with pytest.raises(RuntimeError, match=r"on \['cpu', 'cuda:0'\]"):
            torch.mm(one, torch.ones(2, 2))
        assert (one + other.to(one.device)).device == FIRST
        assert torch.zeros(2, device=SECOND).device == SECOND
        with pytest.raises(RuntimeError, match="is given tensors on"):
            torch.arange(2)[torch.zeros(1, dtype=torch.long, device=SECOND)]


@pytest.mark.parametrize("first", SPLITS)
@pytest.mark.parametrize(
    "spec",
    ["none", "uniform", "prumerge", "fastv", "visionzip+fastv", "random+dytok", "dycoke+dytok"],
)
def test_layers_on_two_devices(spec: str, first: int) -> None:
    inputs = prompt(8, ((4, 5), (2, 8)))
    expected, slots = answered(llava_onevision(attention="eager"), spec, inputs)
    with Devices():
        model = spread(llava_onevision(attention="eager"), first)
        placed = {name: value.to(FIRST) for name, value in inputs.items()}
        found, kept = answered(model, spec, placed)
    assert kept == slots
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# of Qwen3-VL's two forms the dense one: experts take another kernel on what says it is a GPU
@pytest.mark.parametrize("kind", sorted(set(FAMILIES) - {"llava_onevision", "qwen3_vl_moe"}))
def test_every_family_on_two_devices(kind: str) -> None:
    family = FAMILIES[kind]
    inputs = family.prompt().inputs
    expected, slots = answered(family.build("eager"), "visionzip+fastv", inputs)
    with Devices():
        model = spread(family.build("eager"), 2)
        placed = {name: value.to(FIRST) for name, value in inputs.items()}
        found, kept = answered(model, "visionzip+fastv", placed)
    assert kept == slots
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_guide_on_two_devices() -> None:
    inputs = prompt(8, ((4, 5), (2, 8)))
    expected = _guided(
        llava_onevision(attention="eager"), llava_onevision(1, attention="eager"), inputs
    )
    with Devices():
        model, guide = (spread(llava_onevision(seed, attention="eager"), 2) for seed in (0, 1))
        placed = {name: value.to(FIRST) for name, value in inputs.items()}
        found = _guided(model, guide, placed)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def _guided(model: Any, assistant: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad(), attach(model, "visionzip+dytok", assistant=assistant):
        return model(**inputs).logits.cpu()
