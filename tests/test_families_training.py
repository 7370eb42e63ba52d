"""Training every registered family under stages: loss and gradients are those of the hand-built
forward pass, also where layers forget their activations and run again.
"""

from __future__ import annotations

from typing import Any

import handbuilt
import pytest
import torch
from families import FAMILIES, Ask, Prompt
from family_rows import Inputs
from family_stages import left
from handbuilt import Removal
from test_families import everywhere, stages_of
from torch import Tensor
from torch.nn import functional

from tokenprune import attach
from tokenprune.strategy import Pipeline

ANSWER = 4  # last words of each sample, which have labels


def without_answer(inputs: Inputs) -> Inputs:
    """A sample up to its answer."""
    rows = inputs["input_ids"].shape
    return {
        name: part[:, :-ANSWER] if part.shape == rows else part for name, part in inputs.items()
    }


def expected_loss(model: Any, kind: str, prompt: Prompt, stages: tuple[Any, ...]) -> Tensor:
    losses = []
    for number, inputs in enumerate(prompt.alone):
        sample = handbuilt.whole(model, FAMILIES[kind], without_answer(inputs))
        rows = left(prompt, number, stages).rows
        kept = {layer: some[some < len(sample.embeds)] for layer, some in rows.items()}
        words = inputs["input_ids"][0, -ANSWER:]
        logits = handbuilt.logits(model, sample, words, Removal(kept))
        losses.append(functional.cross_entropy(logits[:-1], words))
    return torch.stack(losses).mean()


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


@everywhere
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
def test_loss_and_gradients(kind: str) -> None:
    family = FAMILIES[kind]
    one, other = family.clips
    model = family.build()
    prompt = family.prompt([Ask(3, (one,), 7), Ask(2, (other,), 9)])
    stages = stages_of(family, "input+early+late")
    ids = prompt.inputs["input_ids"]
    labels = torch.full_like(ids, -100)
    labels[:, -ANSWER:] = ids[:, -ANSWER:]

    def loss() -> Tensor:
        with attach(model, Pipeline(stages)):
            return model(**prompt.inputs, labels=labels, use_cache=False).loss

    expected, found = expected_loss(model, kind, prompt, stages), loss()
    assert torch.allclose(found, expected, atol=1e-5)
    wanted, plain = gradients(model, expected), gradients(model, found)
    compare(plain, wanted, 1e-4)
    assert any("vision" in name or "visual" in name or "tower" in name for name in plain)
    model.train()
    for reentrant in (False, True):
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        compare(gradients(model, loss()), plain, 1e-6)


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], near: float) -> None:
    """Relative to the largest one of each weight."""
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        size = float(expected[name].abs().max()) + 1e-3
        assert float((gradient - expected[name]).abs().max()) < near * size, name
