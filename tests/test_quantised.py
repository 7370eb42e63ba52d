"""Models that accelerate has placed, and weights in few bits: attached as they are.

The packages are no part of the development environment; what is not installed is skipped.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tokenprune
from tokenprune import checkpoints, tasks

SPECS = ["none", "dycoke+dytok", "visionzip", "fastv"]
ASKED = ["Is there a purple cross?", "What colour is the circle?"]


def placed(**choices: Any) -> Any:
    pytest.importorskip("accelerate")
    return tokenprune.load("tiny", **choices)


def few_bits(bits: int) -> Any:
    pytest.importorskip("bitsandbytes")
    return placed(bits=bits, device="cpu")


def int8() -> Any:
    """torchao's, of a stock model of transformers."""
    quantisation = pytest.importorskip("torchao.quantization")
    from transformers import AutoModelForImageTextToText, TorchAoConfig

    # the head shares its weights with the embeddings
    config = TorchAoConfig(quantisation.Int8WeightOnlyConfig(), modules_to_not_convert=["lm_head"])
    return AutoModelForImageTextToText.from_pretrained(
        checkpoints.path("tiny"), dtype=torch.float32, quantization_config=config
    ).eval()


MODELS = {
    "on the CPU": lambda: placed(device_map={"": "cpu"}),
    "8 bits": lambda: few_bits(8),
    "4 bits": lambda: few_bits(4),
    "torchao": int8,
}


@pytest.mark.filterwarnings("ignore")  # of the packages, about kernels that are not here
@pytest.mark.parametrize("how", MODELS)
def test_strategies_on_models_that_are_placed_or_quantised(how: str) -> None:
    """The same tokens as `attach` leaves of a whole model, and the whole model's answers here."""
    model, plain = MODELS[how](), tokenprune.load("tiny", device="cpu")
    frames = tasks.build("tinyvqa", samples=1, frames=8, seed=0)[0].frames
    for spec in SPECS:
        found, expected = (
            tokenprune.ask(one, frames, ASKED, spec, max_new_tokens=4) for one in (model, plain)
        )
        assert [one.answer for one in found] == [one.answer for one in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.report.layers == other.report.layers
            assert one.report.full == other.report.full
