"""Prompts and pixels are those of Hugging Face's own processor; models load whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from models import llava_onevision
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlavaOnevisionProcessor

from tokenprune import checkpoints
from tokenprune.errors import LoadingError, PromptError, UnsupportedModelError
from tokenprune.loading.checkpoint import configuration, load
from tokenprune.loading.device import pick_device, pick_dtype
from tokenprune.loading.processor import Processor
from tokenprune.loading.templates import HF
from tokenprune.pixels import Pixels

TINY = checkpoints.path("tiny")


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor.load("tiny")


def video(frames: int, seed: int = 0, size: tuple[int, int] = (96, 96)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, *size, 3), dtype=torch.uint8, generator=generator)


def copy_of_tiny(folder: Path) -> Path:
    return Path(shutil.copytree(TINY, folder / "model"))


def test_prompts_are_hugging_faces(processor: Processor) -> None:
    """The text by the template, the placeholders by the stock processor's own method."""
    assert (
        processor.prompt("What?")
        == "<|im_start|>user <video>\nWhat?<|im_end|><|im_start|>assistant\n"
    )
    stock = SimpleNamespace(num_image_tokens=144, video_token="<video>")
    inputs = {"pixel_values_videos": torch.zeros(1, 5, 3, 96, 96)}
    spelled = LlavaOnevisionProcessor.replace_video_token(stock, inputs, 0)  # pyright: ignore[reportArgumentType]
    expected = processor.tokenizer(processor.prompt("How many?").replace("<video>", spelled))[
        "input_ids"
    ]
    encoded = processor.encode([(video(5), "How many?")])
    assert encoded["input_ids"].tolist() == [expected]
    assert int((encoded["input_ids"] == processor.video_token_id).sum()) == 5 * 36 + 1
    assert encoded["attention_mask"].all()
    assert encoded["pixel_values_videos"].shape == (1, 5, 3, 96, 96)


def test_batches_are_padded_on_the_left(processor: Processor) -> None:
    short, long = (video(4), "What?"), (video(4, 1), "Which came first, the red or the blue one?")
    both = processor.encode([short, long])
    for row, sample in enumerate((short, long)):
        alone = processor.encode([sample])
        length = alone["input_ids"].shape[1]
        assert torch.equal(both["input_ids"][row, -length:], alone["input_ids"][0])
        assert (
            both["attention_mask"][row].sum() == length
            and both["attention_mask"][row, -length:].all()
        )
        assert (both["input_ids"][row, :-length] == processor.pad).all()
        assert torch.equal(both["pixel_values_videos"][row], alone["pixel_values_videos"][0])


def test_prompts_that_cannot_be(processor: Processor) -> None:
    with pytest.raises(PromptError, match=r"videos of \[4, 5\] frames"):
        processor.encode([(video(4), "a"), (video(5), "b")])
    with pytest.raises(PromptError, match="must not contain <video>"):
        processor.encode([(video(4), "Where is <video>?")])


def test_several_videos_and_none(processor: Processor) -> None:
    both, none = ([video(4), video(4, 1)], "What changed?"), ([], "What is a video?")
    made = processor.encode([both, none])
    counts = (made["input_ids"] == processor.video_token_id).sum(1).tolist()
    assert counts == [2 * (4 * 36 + 1), 0]
    assert made["pixel_values_videos"].shape == (2, 4, 3, 96, 96)
    assert torch.equal(
        made["pixel_values_videos"][1],
        processor.encode([(video(4, 1), "?")])["pixel_values_videos"][0],
    )
    with pytest.raises(PromptError, match="videos only: leave out images"):
        processor.encode([([video(4), video(1)[0]], "Is it there?")])


def test_decoding_drops_special_tokens(processor: Processor) -> None:
    ids = processor.tokenizer(" red<|im_end|><|endoftext|>", return_tensors="pt")["input_ids"]
    assert processor.decode(ids) == ["red"]  # pyright: ignore[reportArgumentType]


def test_pixels_are_resized_as_by_pillow() -> None:
    """torchvision's uint8 resize copies Pillow's filters; both may round an intermediate value
    differently.
    """
    image = pytest.importorskip("PIL.Image")
    frames = video(3, size=(130, 170))
    ours = Pixels(64, 48, (0.0,) * 3, (1.0,) * 3, 1.0)(frames)
    for frame, got in zip(frames, ours, strict=True):
        resized = np.array(
            image.fromarray(frame.numpy()).resize((48, 64), image.Resampling.BICUBIC)
        )
        assert (got.permute(1, 2, 0) - torch.from_numpy(resized).float()).abs().max() <= 1


def test_pixels_are_rescaled_and_normalised() -> None:
    frames = video(2, size=(384, 384))
    spec = Pixels.of({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.2, 0.1]})
    expected = (
        frames.permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    ) / torch.tensor([0.5, 0.2, 0.1]).view(3, 1, 1)
    assert torch.allclose(spec(frames), expected, atol=1e-5)
    plain = Pixels.of({"do_normalize": False, "do_rescale": False})(frames)
    assert torch.equal(plain, frames.permute(0, 3, 1, 2).float())
    assert Pixels.of({}) == Pixels(), "the defaults of Hugging Face's video processor"


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"shortest_edge": 384}},
        {"do_center_crop": True},
        {"resample": 1},
        {"do_resize": False},
    ],
)
def test_pixel_settings_that_are_not_reproduced(settings: dict) -> None:
    with pytest.raises(LoadingError, match="not supported"):
        Pixels.of(settings)


def test_templates_and_settings_are_found_in_hugging_faces_order(tmp_path: Path) -> None:
    home = copy_of_tiny(tmp_path)
    plain = (home / "chat_template.jinja").read_text()
    assert Processor.load(home).template == plain
    (home / "chat_template.jinja").unlink()
    settings = json.loads((home / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (home / "tokenizer_config.json").write_text(json.dumps(settings))
    fallback = Processor.load(home)
    assert fallback.template == HF
    assert fallback.prompt("Q?") == Processor.load("tiny").prompt("Q?")
    (home / "chat_template.json").write_text(json.dumps({"chat_template": "{{ 'legacy' }}<video>"}))
    assert Processor.load(home).prompt("Q?") == "legacy<video>"

    video_settings = json.loads((home / "video_preprocessor_config.json").read_text())
    nested = {"video_processor": {**video_settings, "image_mean": [0.1, 0.2, 0.3]}}
    (home / "processor_config.json").write_text(json.dumps(nested))
    pixels = Processor.load(home).pixels
    assert isinstance(pixels, Pixels) and pixels.mean == (0.1, 0.2, 0.3)
    (home / "processor_config.json").unlink()
    (home / "video_preprocessor_config.json").rename(home / "preprocessor_config.json")
    assert Processor.load(home).pixels == Processor.load("tiny").pixels
    (home / "preprocessor_config.json").unlink()
    with pytest.raises(LoadingError, match=r"no video_preprocessor_config\.json"):
        Processor.load(home)


def test_the_embedded_model_answers() -> None:
    model, processor = load("tiny", "bfloat16", "cpu")
    assert model.dtype == torch.bfloat16 and not model.training
    inputs = processor.encode([(video(4), "What colour is the circle?")])
    ids = model.generate(**inputs, max_new_tokens=3, do_sample=False)  # pyright: ignore[reportCallIssue]
    assert len(processor.decode(ids[:, inputs["input_ids"].shape[1] :])) == 1
    assert load("tiny", device="cpu")[0].dtype == torch.float32, "auto on a CPU"


def test_devices_and_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configuration("tiny")
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 0)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_dtype("auto", torch.device("cuda", 0), config) == torch.bfloat16, "as saved"
    with pytest.raises(LoadingError, match="device=cuda:2 is not on this machine"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(LoadingError, match="device=cuda is not on this machine, which has cpu"):
        pick_device("cuda")
    for name in ("gpu", "cpu:1", "cuda:x", ""):
        with pytest.raises(LoadingError, match="write auto, cpu, cuda, cuda:1 or mps"):
            pick_device(name)
    with pytest.raises(LoadingError, match="dtype=int8 is unknown"):
        pick_dtype("int8", torch.device("cpu"), config)


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, message in {
        "tinny": r"there is no model 'tinny': write an embedded model \(nano, tiny",
        str(tmp_path / "absent"): "there is no model",
        str(tmp_path): "holds no config.json",
        "nobody/has-this": "nobody/has-this is not a folder, is not in the local cache, and the "
        "hub cannot be reached",
    }.items():
        with pytest.raises(LoadingError, match=message) as caught:
            load(name)
        assert "\n" not in str(caught.value)


def test_families_are_checked_before_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip_2"}))
    with pytest.raises(
        UnsupportedModelError, match=r"family 'blip_2': supported families are .*llava_onevision"
    ):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(LoadingError, match="cannot be read"):
        load(str(tmp_path))


def test_weights_are_whole_safetensors(tmp_path: Path) -> None:
    home = copy_of_tiny(tmp_path)
    weights = home / "model.safetensors"
    tensors = load_file(weights)
    lacking = next(name for name in tensors if "mlp" in name)
    tensors.pop(lacking)
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(LoadingError, match=r"lack .*mlp.*: the checkpoint is not whole"):
        load(str(home))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(LoadingError, match="cannot be read"):
        load(str(home))
    weights.unlink()
    torch.save({}, home / "pytorch_model.bin")
    with pytest.raises(LoadingError, match=r"no \*\.safetensors weights"):
        load(str(home))


def test_a_preprocessor_of_another_model(tmp_path: Path) -> None:
    home = copy_of_tiny(tmp_path)
    llava_onevision().save_pretrained(home)  # sees 48 pixels
    with pytest.raises(LoadingError, match="frames of 96x96 for a tower that sees 48x48"):
        load(str(home))


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    home = copy_of_tiny(tmp_path)
    for file in home.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(LoadingError, match="no tokenizer"):
        Processor.load(home)
    assert AutoTokenizer.from_pretrained(TINY).pad_token_id == Processor.load("tiny").pad
