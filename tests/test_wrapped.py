"""What people pass to `attach` instead of a stock model: the refusal says what to pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from models import llava_onevision, prompt
from torch import nn

from tokenprune import attach
from tokenprune.adapters import adapt
from tokenprune.errors import StrategyError, UnsupportedModelError


class Forwarding(nn.Module):
    """Forwards attributes it does not have to what it wraps, as PeftModel and LoraModel do."""

    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.inner_name = name
        self._modules[name] = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules[self.__dict__["inner_name"]], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._modules[self.inner_name](*args, **kwargs)  # pyright: ignore[reportOptionalCall]


class Lightning(nn.Module):
    """A training module: the model beside other things."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.loss, self.net = nn.Linear(2, 2), model


def peft(model: Any) -> nn.Module:
    return Forwarding("base_model", Forwarding("model", model))


def fsdp(model: Any) -> nn.Module:
    return Forwarding("_fsdp_wrapped_module", model)


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def refusal(model: Any, **kwargs: Any) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        attach(model, "random+dytok", **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def model():
    return llava_onevision()


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (peft, ".base_model.model"),
        (nn.DataParallel, ".module"),
        (fsdp, "._fsdp_wrapped_module"),
        (compiled, "._orig_mod"),
        (lambda model: nn.DataParallel(peft(model)), ".module.base_model.model"),
        (lambda model: compiled(nn.DataParallel(model)), "._orig_mod.module"),
        (Lightning, ".net"),
        (lambda model: SimpleNamespace(model=model), ".model"),
    ],
)
def test_a_wrapped_model_is_refused_with_what_is_inside(model, wrap, path):
    """Also where it is the assistant."""
    for message in (refusal(wrap(model)), refusal(model, assistant=wrap(llava_onevision(1)))):
        assert f"pass what is inside ({path})" in message
    found = wrap(model)
    for name in path.split(".")[1:]:
        found = getattr(found, name)
    assert adapt(found).model is model


@pytest.mark.parametrize("wrap", [peft, fsdp])
def test_what_wraps_an_attached_model_may_be_called(model, wrap):
    inputs, wrapper = prompt(4), wrap(model)
    with torch.no_grad(), attach(model, "fastv") as session:
        assert torch.equal(wrapper(**inputs).logits, model(**inputs).logits)
    assert len(session.reports) == 2


def test_what_hooks_would_not_reach_is_said_not_to_be_called(model):
    assert "call that inside the block" in refusal(nn.DataParallel(model))
    assert "call that inside the block" in refusal(compiled(model))
    assert "call that" not in refusal(peft(model))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            None,
            "expected a loaded model, not None: load one with "
            "AutoModelForImageTextToText.from_pretrained(NAME)",
        ),
        ("tiny", "expected a loaded model, not the text 'tiny': load one with"),
        (
            SimpleNamespace(image_processor=None),
            "not an object of type SimpleNamespace: load one with",
        ),
        (SimpleNamespace, "expected a loaded model, not the class SimpleNamespace: load one with"),
        (
            nn.Linear(2, 2),
            "Linear is not a model of transformers: supported families are ",
        ),
        (
            nn.DataParallel(nn.Linear(2, 2)),
            "DataParallel is not a model of transformers: supported families are",
        ),
    ],
)
def test_what_is_no_model_is_refused(given, message):
    assert message in refusal(given)
    if given is not None:
        assert message in refusal(llava_onevision(), assistant=given)


def test_parts_of_a_model_are_refused(model):
    assert "load LlavaOnevisionForConditionalGeneration" in refusal(model.model)
    assert "Qwen2Model (qwen2) is not of a family that tokenprune knows" in refusal(
        model.model.language_model
    )
    assert "SiglipVisionModel" in refusal(model.model.vision_tower)


def test_replaced_parts_are_refused():
    model = llava_onevision()
    model.model.language_model.layers[2].self_attn = None
    assert "not built as transformers builds it" in refusal(model)
    model = llava_onevision()
    del model.model.vision_tower
    assert "not built as transformers builds it" in refusal(model)


def test_a_model_without_weights_is_refused(model):
    with torch.device("meta"):
        empty = llava_onevision()
    assert "the model has no weights (they are on the meta device)" in refusal(empty)
    assert "the assistant has no weights (they are on the meta device)" in refusal(
        model, assistant=empty
    )


@pytest.mark.parametrize(
    "part", ["model", "body", "language model", "layer", "attention", "tower", "forward"]
)
def test_compiled_parts_that_hooks_go_on_are_refused(part):
    model = llava_onevision()
    language_model = model.model.language_model
    if part == "forward":
        model.forward = torch.compile(model.forward, backend="eager")
    else:
        {
            "model": model,
            "body": model.model,
            "language model": language_model,
            "layer": language_model.layers[0],
            "attention": language_model.layers[1].self_attn,
            "tower": model.model.vision_tower,
        }[part].compile(backend="eager")
    assert "is compiled, and compiled code passes hooks by: attach an uncompiled model" in refusal(
        model
    )


# the assistant


def test_an_assistant_that_is_the_model_itself_is_no_assistant(model):
    inputs = prompt(6, ((4, 5), (2, 8)))
    with torch.no_grad():
        with attach(model, "random+dytok") as own:
            expected = model(**inputs).logits
        with attach(model, "random+dytok", assistant=model) as guided:
            assert torch.equal(model(**inputs).logits, expected)
    assert guided.report[1].frame_weights == own.report[1].frame_weights


def test_an_assistant_that_shares_layers_with_the_model_is_refused(model):
    other = llava_onevision(1)
    other.model.language_model.layers[0] = model.model.language_model.layers[0]
    with pytest.raises(
        StrategyError, match="shares layers with the model: pass a model of its own"
    ):
        attach(model, "random+dytok", assistant=other)


def test_a_model_and_an_assistant_of_one_configuration(model):
    """Both read the same object, which names the attention implementation."""
    twin = type(model)(model.config).eval()
    twin.load_state_dict(model.state_dict())
    assert twin.config.text_config is model.config.text_config
    inputs, before = prompt(6), model.config.text_config._attn_implementation
    weights = []
    for assistant in (None, twin):
        with torch.no_grad(), attach(model, "visionzip+dytok", assistant=assistant) as session:
            model(**inputs)
        weights.append(session.report[0].frame_weights)
    assert weights[1] == pytest.approx(weights[0], abs=1e-6)
    assert model.config.text_config._attn_implementation == before
