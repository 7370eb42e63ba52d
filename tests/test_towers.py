"""Operations of towers and language models: worked by hand, and beside torch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from tokenprune.adapters import families
from tokenprune.bench.operations import Work, exact
from tokenprune.bench.published import SHAPES, published
from tokenprune.bench.shapes import shape_frames
from tokenprune.bench.towers import Grid, Tower, own_grid, project, window_pairs
from tokenprune.flops import Decoder

WIDE = Grid(26, 46)  # 640x360 as Qwen2.5-VL resizes it: 364 x 644
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
ROTARY = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
PACKED: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"depth": 2, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 3},
    "qwen2_5_vl": {
        "depth": 4,
        "hidden_size": 16,
        "intermediate_size": 20,
        "out_hidden_size": 32,
        "window_size": 16,
        "fullatt_block_indexes": [1, 3],
    },
    "qwen3_vl": {
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 20,
        "out_hidden_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    },
}
SQUARE = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 48,
    "patch_size": 8,
}
# by family: the tower's `model_type`, what else it says, and the argument that frames are
FRAMED: dict[str, tuple[str, dict[str, Any], str]] = {
    "llava_onevision": ("siglip_vision_model", {}, "video"),
    "llava_next_video": ("clip_vision_model", {}, "video"),
    "video_llava": ("clip_vision_model", {}, "video"),
    "internvl": ("internvl_vision", {}, "image"),
    "gemma3": ("siglip_vision_model", {"vision_use_head": False}, "image"),
}


def counted(run: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() // 2  # it counts a multiply-add twice


def built(kind: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> Any:
    config = AutoConfig.for_model(kind, text_config=text, vision_config=vision, **more)
    return AutoModelForImageTextToText.from_config(config, attn_implementation="eager").eval()


def test_windows_of_a_frame() -> None:
    assert window_pairs(Grid(8, 8), 8) == 64**2
    assert window_pairs(Grid(4, 6), 8) == 24**2, "a window is never more than the frame"
    # 26 = 3 x 8 + 2 and 46 = 5 x 8 + 6
    assert window_pairs(WIDE, 8) == (3 * 64 + 4) * (5 * 64 + 36) == 69_776


def test_a_frame_of_qwen2_5_vl_by_hand() -> None:
    config = published("qwen2.5-vl-7b")
    tower = Tower.of(config.vision_config)
    assert (tower.window, tower.windowed, tower.matrices, tower.values) == (8, 28, 3, 1176)
    # 1196 patches of 1176 numbers; 32 layers of 4 d^2 + 3 d m; 4 full squares and 28 of windows
    stem = 1_800_314_880
    layers = 32 * (7_838_105_600 + 15_706_828_800)
    attention = 2 * 1280 * (4 * 1_430_416 + 28 * 69_776)
    assert tower.encode(WIDE) == stem + layers + attention == 774_887_219_200
    # 299 cells: 5120 x 5120 and 5120 x 3584
    assert project(config, WIDE) == 299 * (26_214_400 + 18_350_080) == 13_324_779_520


def test_a_frame_of_siglip_by_hand() -> None:
    config = published("llava-onevision-7b")
    grid = own_grid(config.vision_config)
    assert grid == (27, 27)
    # 729 patches of 588 numbers; 26 layers of 4 d^2 + 2 d m, and one square each
    by_hand = 493_807_104 + 26 * (3_869_835_264 + 7_229_067_264 + 1_224_440_064)
    assert Tower.of(config.vision_config).encode(grid) == by_hand
    assert project(config, grid) == 729 * (1152 * 3584 + 3584 * 3584)


@pytest.mark.parametrize("shape", [[2, 10, 14], [1, 4, 4], [3, 8, 8]])
@pytest.mark.parametrize("kind", PACKED)
def test_packed_towers_are_what_torch_counts(kind: str, shape: list[int]) -> None:
    rotary = {**TEXT, "rope_parameters": ROTARY}
    model = built(kind, rotary, {**PACKED[kind], "num_heads": 2, "patch_size": 4})
    tower = Tower.of(model.config.vision_config)
    frames, *sides = shape
    grid = Grid(*sides)
    pixels = torch.randn(frames * grid.patches, tower.values)
    expected = frames * (tower.encode(grid) + project(model.config, grid))
    assert counted(lambda: model.model.visual(pixels, torch.tensor([shape]))) == expected


@pytest.mark.parametrize("kind", FRAMED)
def test_towers_of_one_size_are_what_torch_counts(kind: str) -> None:
    tower, more, modality = FRAMED[kind]
    inner = "gemma3_text" if kind == "gemma3" else "qwen2"
    settings = {"mm_tokens_per_image": 9} if kind == "gemma3" else {}
    vision = {**SQUARE, **more, "model_type": tower}
    model = built(kind, {**TEXT, "model_type": inner}, vision, **settings)
    grid = own_grid(model.config.vision_config)
    shape = (1, 8, 3, 48, 48) if modality == "video" else (8, 3, 48, 48)
    encode = getattr(model.model, f"get_{modality}_features")
    expected = Tower.of(model.config.vision_config).encode(grid) + project(model.config, grid)
    assert counted(lambda: encode(torch.randn(shape))) == 8 * expected


def whole(text: Any, rows: int, generated: int = 1) -> Any:
    """The language model alone, over `rows` rows."""
    layers = [rows] * text.num_hidden_layers
    work = Work(0, rows, 0, layers, layers, generated)
    config = AutoConfig.for_model("llava_onevision")
    config.text_config = text
    return exact(config, work)


def test_a_sliding_layer_attends_to_its_window() -> None:
    kinds = ["sliding_attention", "full_attention"]
    text = AutoConfig.for_model("qwen2", **TEXT)
    text.layer_types, text.sliding_window = kinds, 16
    products = 32 * (2 * 32 + 2 * 16) + 3 * 32 * 64
    counts = whole(text, rows=20, generated=4)
    assert counts.prefill == 2 * 20 * products + 2 * 20 * 32 * (16 + 20)
    # three steps that attend to 21, 22 and 23 rows, and to 16
    assert counts.decode == 3 * 2 * products + 2 * 32 * (21 + 22 + 23 + 3 * 16)
    assert whole(text, rows=12).prefill == 2 * (12 * products + 2 * 12 * 32 * 12)
    # a window that fills while tokens are made: 15 rows and its own, then 16 each
    counts = whole(text, rows=14, generated=4)
    by_hand = 3 * 2 * products + 2 * 32 * (15 + 16 + 17 + 15 + 16 + 16)
    assert counts.decode == pytest.approx(by_hand, rel=1e-12)


def test_a_mixture_counts_the_experts_that_a_token_goes_through() -> None:
    settings = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    text = AutoConfig.for_model("qwen3_vl_moe_text", **TEXT, **settings, mlp_only_layers=[0])
    attention = 32 * (2 * 32 + 2 * 16)
    dense, sparse = 3 * 32 * 64, 32 * 8 + 3 * 32 * 2 * 24
    expected = 2 * 10 * attention + 10 * (dense + sparse) + 2 * (2 * 10 * 10 * 32)
    assert whole(text, rows=10).prefill == expected
    assert Decoder.of(text).ffn == 48
    model = AutoModel.from_config(text, attn_implementation="eager", experts_implementation="eager")
    rows = torch.randn(1, 10, 32)
    assert counted(lambda: model(inputs_embeds=rows)) == expected


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llava-video-7b", 8.03),
        ("qwen2.5-vl-3b", 3.75),
        ("qwen2.5-vl-7b", 8.29),
        ("qwen3-vl-4b", 4.44),
        ("qwen3-vl-8b", 8.77),
        ("internvl3-8b", 7.94),
    ],
)
def test_shapes_have_as_many_parameters_as_their_cards_say(name: str, billions: float) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(published(name))
    assert round(sum(part.numel() for part in model.parameters()) / 1e9, 2) == billions
    sizes = SHAPES[name]
    assert Decoder.of(model.config.get_text_config()).layers == sizes.layers


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("llava-onevision-7b", (32, 14, 14)),
        ("qwen2.5-vl-7b", (16, 13, 23)),  # 364 x 644
        ("qwen3-vl-8b", (16, 11, 20)),  # 352 x 640
        ("internvl3-8b", (32, 16, 16)),
    ],
)
def test_what_a_shape_makes_of_32_frames_of_640x360(name: str, video: tuple[int, int, int]) -> None:
    config = published(name)
    family = families()[config.model_type]
    preparation = family.preparation(config, shape_frames(f"shape:{name}", family.reads))
    assert preparation.video(32, 360, 640) == video
