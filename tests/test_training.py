"""Training through an attached model: checkpointed layers, labels, and gradients that are those of
what was kept.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import CELLS, VIDEO, llava_onevision, prompt
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
)
from torch.nn.functional import cross_entropy

from tokenprune import attach
from tokenprune.errors import UnsupportedGenerationError

SPECS = ["none", "fastv", "fastv+dycoke", "visionzip", "prumerge", "uniform+dytok"]
OPTIONS = {"fastv+dycoke": {"dycoke.merge": 0.0}}
RAGGED = ((4, 5), (2, 8))


def gradients(
    spec: str, checkpointing: bool | None, inputs: Any, **kwargs: Any
) -> dict[str, torch.Tensor]:
    """Of one backward pass; `checkpointing` says whether it is reentrant, None for without."""
    model = llava_onevision().train()
    if checkpointing is not None:
        model.activation_checkpointing_enable({"use_reentrant": checkpointing})
        model.enable_input_require_grads()
    with attach(model, spec, OPTIONS.get(spec)):
        model(**inputs, **kwargs).logits[:, -1].square().mean().backward()
    return {name: part.grad for name, part in model.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("spec", SPECS)
# torch's, about the vision tower's first layer
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpointed_layers_have_the_same_gradients(spec, reentrant):
    inputs = prompt(5, RAGGED)
    plain = gradients(spec, None, inputs, use_cache=False)
    again = gradients(spec, reentrant, inputs, use_cache=False)
    assert {name for name in plain if "language_model.layers" in name} <= set(again)
    assert all(torch.allclose(again[name], plain[name], atol=1e-6) for name in again)


def test_checkpointed_layers_cache_nothing_whatever_the_configuration_says():
    """A model's `use_cache` is on by default, and a trainer leaves it so."""
    inputs = prompt(4)
    plain = gradients("fastv", None, inputs)
    again = gradients("fastv", False, inputs)
    assert all(torch.allclose(again[name], plain[name], atol=1e-6) for name in plain)


def test_gradients_of_two_passes_add_up_after_the_block():
    """Both recomputations run when the hooks are gone."""
    inputs, losses = [prompt(4, seed=seed) for seed in (0, 1)], []
    model = llava_onevision().train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    with attach(model, "fastv"):
        losses += [model(**one, use_cache=False).logits[:, -1].square().mean() for one in inputs]
    torch.stack(losses).sum().backward()
    parts = [gradients("fastv", None, one, use_cache=False) for one in inputs]
    for name, part in model.named_parameters():
        if part.grad is not None:
            assert torch.allclose(part.grad, parts[0][name] + parts[1][name], atol=1e-6), name


def test_layers_that_torch_has_wrapped_for_checkpointing():
    inputs, model = prompt(4), llava_onevision().train()
    plain = gradients("fastv", None, inputs, use_cache=False)
    kind = type(model.model.language_model.layers[0])
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, kind))
    with attach(model, "fastv"):
        model(**inputs, use_cache=False).logits[:, -1].square().mean().backward()
    found = {
        name.replace("_checkpoint_wrapped_module.", ""): part.grad
        for name, part in model.named_parameters()
    }
    assert all(torch.allclose(found[name], part, atol=1e-6) for name, part in plain.items())


# labels


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("pad", ["left", "right"])
def test_the_loss_is_that_of_the_kept_positions(spec, pad):
    """An answer's words are predicted by the rows before them, which are text and still there."""
    inputs, model = prompt(5, RAGGED, pad=pad), llava_onevision()
    labels = torch.full_like(inputs["input_ids"], -100)
    expected = []
    with attach(model, spec, OPTIONS.get(spec)), torch.no_grad():
        for row in labels:
            real = inputs["attention_mask"][len(expected)].nonzero().flatten()
            row[real[-3:]] = inputs["input_ids"][len(expected), real[-3:]]
            single = {
                name: part[len(expected) : len(expected) + 1] for name, part in inputs.items()
            }
            single |= {name: single[name][:, real] for name in ("input_ids", "attention_mask")}
            logits = model(**single).logits[0, -4:-1]
            expected.append(cross_entropy(logits, single["input_ids"][0, -3:], reduction="none"))
        batch = model(**inputs, labels=labels)
        assert torch.allclose(batch.loss, torch.cat(expected).mean(), atol=1e-5)
        # as Trainer says how many its batches have
        half = model(**inputs, labels=labels, num_items_in_batch=12)
        assert torch.allclose(half.loss, torch.cat(expected).sum() / 12, atol=1e-5)
    assert "_loss_function" not in vars(model)


def test_a_loss_of_the_callers_own_gets_kept_labels_and_stays():
    inputs, model, seen = prompt(4), llava_onevision(), []

    def mine(logits: Any, labels: Any, **_: Any) -> Any:
        seen.append((logits.shape[1], labels.tolist()))
        return logits.sum()

    model.loss_function = mine
    with attach(model, "random", {"random.keep": 1 / 3}):
        model(**inputs, labels=inputs["input_ids"])
        text = torch.randint(8, 64, (1, 7))
        model(input_ids=text, labels=text)
    ids = inputs["input_ids"][0].tolist()
    kept = 4 * CELLS // 3
    assert seen[0] == (len(ids) - 4 * CELLS + kept, [ids[:4] + [VIDEO] * (kept + 1) + ids[-5:]])
    assert seen[1] == (7, text.tolist())
    assert model.loss_function is mine


def test_shifted_labels_are_refused():
    inputs, model = prompt(4), llava_onevision()
    ids = inputs["input_ids"]
    with (
        attach(model, "random"),
        pytest.raises(UnsupportedGenerationError, match="pass labels, which are shifted"),
    ):
        model(**inputs, labels=ids, shift_labels=ids)
    with attach(model, "none"):
        assert model(**inputs, labels=ids, shift_labels=ids).loss.item() > 0
