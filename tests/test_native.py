"""Checkpoints of the original `llava` package load in place, with their own prompt and pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import natives
import pytest
import torch
from natives import IMAGE, TOWER
from running import FAST, read
from safetensors.torch import load_file, save_file

from tokenprune import attach, checkpoints
from tokenprune.adapters import adapt
from tokenprune.cli.main import main
from tokenprune.errors import LoadingError, PromptError, UnsupportedModelError
from tokenprune.loading import native
from tokenprune.loading.checkpoint import configuration, load, outline
from tokenprune.loading.processor import Processor
from tokenprune.loading.templates import named
from tokenprune.loading.variant import Prompted

VIDEO = IMAGE + 1
# what `conv_templates["qwen_1_5"]` of the llava package makes of one question about one video
ASKED = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
    "How many?<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(autouse=True)
def small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(native.TOWERS, "siglip-small", TOWER)


@pytest.fixture(scope="module")
def model() -> Any:
    return natives.model()


def frames(number: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 40, 60, 3), dtype=torch.uint8, generator=generator)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return model.state_dict()


def same(one: Any, other: Any) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("model_type", ["llava", "llava_qwen"])
@pytest.mark.parametrize("files", [1, 3])
def test_every_tensor_is_read_as_it_lies(
    model: Any, tmp_path: Path, model_type: str, files: int
) -> None:
    home = natives.save(tmp_path / "native", model, files=files, model_type=model_type)
    before = {file.name: file.stat().st_mtime_ns for file in home.iterdir()}
    loaded, _ = load(str(home), dtype="float32", device="cpu")
    assert type(loaded) is type(model)
    assert same(loaded, model)
    assert {file.name: file.stat().st_mtime_ns for file in home.iterdir()} == before


def test_tied_embeddings(tmp_path: Path) -> None:
    """As in the 0.5B, which stores no `lm_head`."""
    tied = natives.model(tied=True)
    home = natives.save(tmp_path / "native", tied)
    assert "lm_head.weight" not in load_file(home / "model.safetensors")
    loaded: Any = load(str(home), device="cpu")[0]
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight
    assert same(loaded, tied)


def test_frequencies_that_old_versions_stored_are_left_out(model: Any, tmp_path: Path) -> None:
    home = natives.save(tmp_path / "native", model)
    file = home / "model.safetensors"
    stale = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(load_file(file) | stale, file, {"format": "pt"})
    assert same(load(str(home), device="cpu")[0], model)


@pytest.mark.parametrize(
    ("asked", "given"),
    [("auto", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)],
)
def test_precision_is_chosen_as_for_other_checkpoints(
    model: Any, tmp_path: Path, asked: str, given: torch.dtype
) -> None:
    home = natives.save(tmp_path / "native", model)
    assert configuration(str(home)).dtype == torch.bfloat16, "what an accelerator would take"
    loaded, _ = load(str(home), dtype=asked, device="cpu")
    assert {part.dtype for part in loaded.parameters()} == {given}


PUBLISHED = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "tokenizer_model_max_length": 32768,
    "image_token_index": ...,
}


@pytest.mark.parametrize(
    "tower", ["google/siglip-so400m-patch14-384", "/data/models/siglip-so400m-patch14-384/"]
)
def test_the_configuration_of_the_published_7b(model: Any, tmp_path: Path, tower: str) -> None:
    home = tmp_path / "7b"
    home.mkdir()
    settings = natives.settings(model, mm_vision_tower=tower, **PUBLISHED)
    (home / "config.json").write_text(json.dumps(settings))
    adapter = outline(configuration(str(home)))
    config: Any = adapter.model.config
    assert (adapter.cells, adapter.separators, adapter.depth) == (196, 1, 28)
    assert (config.image_token_id, config.video_token_id) == (151646, 151647)
    assert config.text_config.rope_parameters["rope_theta"] == 1e6
    assert config.vision_config.num_hidden_layers == 26
    assert not config.vision_config.vision_use_head
    # 7.6 billion of Qwen2-7B, 0.4 of the tower, and the projector
    assert sum(part.numel() for part in adapter.model.parameters()) == 8_030_348_832


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architectures": ["LlavaLlamaForCausalLM"]}, "LlavaLlamaForCausalLM: only those of"),
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "clip-vit-large-patch14-336: "),
        ({"mm_projector_type": "linear"}, "mm_projector_type=linear, a projector"),
        ({"mm_projector_type": "mlp3x_gelu"}, "only mlp2x_gelu"),
        ({"mm_resampler_type": "spatial_pool"}, "mm_resampler_type=spatial_pool, a resampler"),
        ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type=flat"),
        ({"mm_newline_position": "no_token"}, "only grid or frame or one_token"),
        ({"mm_spatial_pool_mode": "conv"}, "mm_spatial_pool_mode=conv, a pooling"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end=True"),
        ({"add_faster_video": True}, "add_faster_video=True, a second, faster stream of frames"),
        ({"use_pos_skipping": True}, "use_pos_skipping=True"),
    ],
)
def test_what_would_be_another_model_is_refused(
    model: Any, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """Before weights are read: there are none here."""
    home = tmp_path / "other"
    home.mkdir()
    (home / "config.json").write_text(json.dumps(natives.settings(model, **changes)))
    with pytest.raises(UnsupportedModelError) as caught:
        load(str(home))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_token_index": 511}, "a vocabulary of 512 holds no unused id 512"),
        ({"hidden_size": "wide"}, "does not describe a native LLaVA checkpoint"),
    ],
)
def test_a_configuration_that_makes_no_sense(
    model: Any, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    home = natives.save(tmp_path / "native", model, **changes)
    with pytest.raises(LoadingError, match=told):
        configuration(str(home))


def test_weights_that_do_not_fit_are_refused(model: Any, tmp_path: Path) -> None:
    """A tower that was left out, and parts that the class has no place for."""
    home = natives.save(tmp_path / "native", model)
    file = home / "model.safetensors"
    whole = load_file(file)
    towerless = {key: value for key, value in whole.items() if "vision_tower" not in key}
    save_file(towerless, file, {"format": "pt"})
    with pytest.raises(LoadingError, match=r"lack model\.vision_tower\..* is not whole"):
        load(str(home), device="cpu")
    more = {"model.vision_resampler.query": torch.ones(2)}
    save_file(whole | more, file, {"format": "pt"})
    with pytest.raises(
        LoadingError, match=r"hold model\.vision_resampler\.query, which is no part"
    ):
        load(str(home), device="cpu")
    file.unlink()
    with pytest.raises(LoadingError, match=r"no \*\.safetensors"):
        load(str(home), device="cpu")


def test_the_prompt_is_the_llava_packages(model: Any, tmp_path: Path) -> None:
    """Its `tokenizer_image_token`: the text is split at the mark, and an id put in between."""
    processor = Processor.load(natives.save(tmp_path / "native", model))
    assert processor.prompt("How many?") == ASKED
    assert processor.template_name == "qwen_1_5"
    encoded = processor.encode([(frames(3), "How many?")])
    tokens = processor.tokenizer
    before, after = (tokens(part)["input_ids"] for part in ASKED.split("<image>"))
    expected: Any = [*before, *[VIDEO] * (3 * 16 + 1), *after]
    assert encoded["input_ids"].tolist() == [expected]
    assert processor.text_tokens("How many?") == len(before) + len(after)


def test_pixels_are_normalised_by_a_half(model: Any, tmp_path: Path) -> None:
    """CLIP's numbers are the default of transformers, and no native folder says otherwise."""
    processor = Processor.load(natives.save(tmp_path / "native", model))
    shown = torch.full((1, 56, 56, 3), 51, dtype=torch.uint8)
    assert torch.allclose(processor.pixels(shown), torch.tensor(51 / 255 * 2 - 1), atol=1e-6)


@pytest.mark.parametrize("mark", ["<image>", "<video>"])
def test_a_question_cannot_hold_the_mark(model: Any, tmp_path: Path, mark: str) -> None:
    processor = Processor.load(natives.save(tmp_path / "native", model))
    with pytest.raises(PromptError, match=f"must not contain {mark}"):
        processor.encode([(frames(1), f"Is {mark} red?")])


def once(ids: torch.Tensor) -> torch.Tensor:
    """Without repetitions: frames of the two models have different numbers of tokens."""
    return torch.unique_consecutive(ids)


def test_other_templates(model: Any, tmp_path: Path) -> None:
    """Either way round, and a user's own."""
    home = str(natives.save(tmp_path / "native", model))
    converted = Processor.load("tiny")
    theirs = Processor.load(home, Prompted(template="hf"))
    assert theirs.prompt("Q?") == converted.prompt("Q?")
    ids = once(theirs.encode([(frames(1), "Q?")])["input_ids"])
    stock = once(converted.encode([(frames(1), "Q?")])["input_ids"])
    assert torch.equal(torch.where(ids == VIDEO, converted.video_token_id, ids), stock)

    ours = Processor.load("tiny", Prompted(template="qwen_1_5"))
    assert ours.prompt("How many?") == ASKED.replace("<image>", "<video>")
    here = once(Processor.load(home).encode([(frames(1), "How many?")])["input_ids"])
    there = once(ours.encode([(frames(1), "How many?")])["input_ids"])
    assert torch.equal(torch.where(here == VIDEO, ours.video_token_id, here), there)

    file = tmp_path / "own.jinja"
    file.write_text("About <video> {{ messages[0]['content'][1]['text'] }}")
    for name, cells in ((home, 16), ("tiny", 36)):
        own = Processor.load(name, Prompted(template=str(file)))
        assert own.prompt("why?") == "About <video> why?"
        assert own.template_name == str(file)
        marked = own.encode([(frames(1), "why?")])["input_ids"] == own.video_token_id
        assert int(marked.sum()) == cells + 1


@pytest.mark.parametrize("name", ["qwen", "vicuna_v1", "no/such/file.jinja"])
def test_templates_that_there_are_not(name: str) -> None:
    with pytest.raises(LoadingError, match=f"template={name} (is unknown|cannot be read)"):
        Processor.load("tiny", Prompted(template=name))


@pytest.mark.parametrize("kind", ["qwen2_vl", "llava_next_video"])
def test_named_templates_are_of_llava_onevision_and_llava_video(kind: str) -> None:
    with pytest.raises(LoadingError, match=f"and this is a {kind}: leave it out"):
        named("qwen_1_5", kind)
    assert named("qwen_1_5", "llava_video") == named("qwen_1_5", "llava_onevision")


def test_none_is_the_stock_model(model: Any, tmp_path: Path) -> None:
    home = natives.save(tmp_path / "native", model)
    loaded, processor = load(str(home), device="cpu")
    inputs = processor.encode([(frames(4), "How many?"), (frames(4, 1), "What moves?")])
    assert adapt(loaded).video_token_id == VIDEO
    settings: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    stock: Any = loaded
    expected = stock.generate(**inputs, **settings)
    with attach(loaded, "none"):
        assert torch.equal(stock.generate(**inputs, **settings), expected)
    with attach(loaded, "uniform") as session:
        stock.generate(**inputs, **settings)
    assert session.report[0].kept < session.report[0].full == 4 * 16


def test_a_run_answers_and_records_the_template(model: Any, tmp_path: Path) -> None:
    home = natives.save(tmp_path / "native", model)
    words = ["run", "strategy=uniform", f"model={home}", *FAST]
    assert main([*words, "limit=2", f"out={tmp_path / 'one'}"]) == 0
    summary, records = read(tmp_path / "one")
    assert summary["template"] == "qwen_1_5"
    assert records[0]["prompt"].startswith("<|im_start|>system")
    assert summary["systems"]["strategy"]["errors"] == 0

    other = [*words, "template=hf", "limit=2", f"out={tmp_path / 'two'}"]
    assert main(other) == 0
    summary, records = read(tmp_path / "two")
    assert summary["template"] == "hf"
    assert summary["systems"]["vanilla"]["reused"] is None, "asked otherwise, answered anew"
    assert records[0]["prompt"].startswith("<|im_start|>user <video>")


def test_what_the_llava_package_would_cut_off_is_no_context(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It truncates prompts to `tokenizer_model_max_length`; here that is an error of a run, and a
    warning of `attach`.
    """
    home = natives.save(tmp_path / "native", model, tokenizer_model_max_length=160)
    words = ["run", "strategy=uniform", f"model={home}", "limit=1"]
    assert main([*words, "frames=12", "max_new_tokens=4", f"out={tmp_path / 'out'}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "holds 160: write frames=" in said
    loaded, processor = load(str(home), device="cpu")
    inputs = processor.encode([(frames(12), "How many?")])
    with attach(loaded, "none"), pytest.warns(UserWarning, match="160"):
        loaded(**inputs)


def test_a_run_knows_a_changed_template_file(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("<video>{{ messages[0]['content'][1]['text'] }}")
    words = ["run", "strategy=none", f"template={file}", *FAST, "limit=1"]
    assert main([*words, f"out={tmp_path / 'one'}"]) == 0
    assert main([*words, f"out={tmp_path / 'two'}"]) == 0
    assert read(tmp_path / "two")[0]["systems"]["vanilla"]["reused"] is not None
    file.write_text("<video> {{ messages[0]['content'][1]['text'] }}")
    assert main([*words, f"out={tmp_path / 'three'}"]) == 0
    assert read(tmp_path / "three")[0]["systems"]["vanilla"]["reused"] is None


def test_embedded_models_are_not_native() -> None:
    found = json.loads((checkpoints.path("tiny") / "config.json").read_text())
    assert not native.is_native(found)
    assert Prompted().template is None
