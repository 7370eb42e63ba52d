"""Models on several devices, offloaded, in few bits, or inside PEFT: as loaded and as attached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import natives
import pytest
import torch
from models import llava_onevision, prompt
from natives import TOWER
from running import FAST, read

from tokenprune import attach
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError, LoadingError, UnsupportedModelError
from tokenprune.loading import native
from tokenprune.loading.checkpoint import load
from tokenprune.loading.variant import Variant

PIPELINES = ["none", "fastv", "visionzip+fastv", "dycoke+dytok"]


@pytest.fixture(autouse=True)
def small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(native.TOWERS, "siglip-small", TOWER)


def generated(model: Any, spec: str, inputs: Any) -> torch.Tensor:
    """Logits of an answer `[steps b v]`."""
    with attach(model, spec):
        made = model.generate(
            **inputs,
            max_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(made.logits)


# what accelerate does


@pytest.mark.parametrize("spec", PIPELINES)
def test_an_offloaded_model_answers_as_a_whole_one(spec: str) -> None:
    """Weights come in layer by layer, inside hooks of accelerate's own."""
    accelerate = pytest.importorskip("accelerate")
    plain, offloaded = llava_onevision(), llava_onevision()
    for layer in offloaded.model.language_model.layers:
        accelerate.cpu_offload(layer)
    accelerate.cpu_offload(offloaded.model.vision_tower)
    assert any(weight.is_meta for weight in offloaded.parameters())
    inputs = prompt(8, ((4, 5), (2, 8)))
    assert torch.equal(generated(offloaded, spec, inputs), generated(plain, spec, inputs))


# accelerate: a parameter of the body itself is no module
@pytest.mark.filterwarnings("ignore:The following device_map keys:UserWarning")
@pytest.mark.parametrize("spec", PIPELINES)
def test_layers_that_stay_on_disk(spec: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    home = natives.save(tmp_path / "native", natives.model(), files=2)
    whole, _ = load(str(home), device="cpu")
    text = whole.model.language_model
    places = dict.fromkeys(["model.image_newline", "model.vision_tower", "lm_head"], "cpu")
    places["model.multi_modal_projector"] = "cpu"
    for name in ("embed_tokens", "norm", "rotary_emb"):
        places[f"model.language_model.{name}"] = "cpu"
    for number in range(len(text.layers)):
        places[f"model.language_model.layers.{number}"] = "disk" if number % 2 else "cpu"
    spread, processor = load(str(home), variant=Variant(device_map=json.dumps(places)))
    assert spread.model.language_model.layers[1].mlp.up_proj.weight.is_meta
    inputs = processor.encode([(torch.randint(0, 256, (8, 40, 60, 3)).byte(), "How many?")])
    assert torch.equal(generated(spread, spec, inputs), generated(whole, spec, inputs))


def test_runs_take_a_device_map(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    words = ["run", "strategy=fastv", "limit=2", *FAST[1:]]
    assert main([*words, "device_map=auto", f"out={tmp_path / 'auto'}"]) == 0
    assert main([*words, f"out={tmp_path / 'whole'}", "device=cpu", "reuse=false"]) == 0
    spread, whole = (read(tmp_path / name) for name in ("auto", "whole"))
    assert spread[0]["device_map"] == "auto"
    for one, other in zip(spread[1], whole[1], strict=True):
        assert one["strategy"]["prediction"] == other["strategy"]["prediction"]


def test_a_bench_takes_a_device_map(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("matplotlib")
    words = ["bench", "strategy=fastv", "frames=2", "new_tokens=2", "repeats=1", "text=4"]
    assert main([*words, "device_map={'': cpu}", f"out={tmp_path / 'out'}"]) == 0


# what is refused


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenprune.loading.spread.find_spec", lambda name: None)
    with pytest.raises(LoadingError, match=r"device_map= needs accelerate: pip install accelerate"):
        load("tiny", variant=Variant(device_map="auto"))
    with pytest.raises(LoadingError, match=r"bits=8 needs bitsandbytes: pip install bitsandbytes"):
        load("tiny", variant=Variant(bits=8))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bits=2"], "bits=2 is not supported: write 8 or 4"),
        (["device_map=cuda"], "device_map=cuda is unknown: write auto, balanced"),
        (["device_map=auto", "device=cpu"], "leave one of them out"),
        (["device_map=auto", "trainer.devices=2"], "trainer.devices= would give one model each"),
    ],
)
def test_contradictions(words: list[str], told: str, capsys: Any, tmp_path: Path) -> None:
    assert main(["run", "strategy=fastv", *words, f"out={tmp_path / 'out'}"]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_shape_is_made_up_on_one_device(capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ["bench", "strategy=random", "model=shape:tiny", f"out={tmp_path / 'out'}"]
    assert main([*words, "bits=8"]) == 2
    assert "device_map= and bits= are of checkpoints" in capsys.readouterr().err


# what wraps a model


# of a name that transformers has changed since
peft_warns = pytest.mark.filterwarnings("ignore::FutureWarning")


def lora(model: Any) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    settings = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return peft.get_peft_model(model, settings)


@peft_warns
def test_a_peft_model_is_refused_with_what_is_inside() -> None:
    wrapped = lora(llava_onevision())
    with pytest.raises(UnsupportedModelError, match=r"pass what is inside \(\.base_model\.model\)"):
        attach(wrapped, "fastv")


@peft_warns
@pytest.mark.parametrize("spec", PIPELINES)
def test_what_is_inside_has_its_adapters(spec: str) -> None:
    """Compressed, it is the model whose adapters were merged into its weights."""
    inner = lora(llava_onevision()).base_model.model
    merged = lora(llava_onevision()).merge_and_unload()
    inputs = prompt(8, ((4, 5), (2, 8)))
    plain = generated(llava_onevision(), spec, inputs)
    ours, theirs = generated(inner, spec, inputs), generated(merged, spec, inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert not torch.allclose(ours, plain, atol=1e-2), "the adapters do something"


def test_variants_are_checked() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Variant(device_map="{a: cpu")
