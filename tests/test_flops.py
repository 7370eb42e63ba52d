"""The papers' operation counts, beside the rows that they print."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config

from tokenprune.flops import Decoder, c2, cs, dycoke, flops_ratio, prefill
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.tokens import VisualTokens

SMALL = Decoder(layers=24, width=896, ffn=4864, kv_width=128)
SEVEN = Decoder(layers=28, width=3584, ffn=18944, kv_width=512)
BIG = Decoder(layers=80, width=8192, ffn=29568, kv_width=1024)
LLAVA_7B = Decoder(layers=32, width=4096, ffn=11008, kv_width=4096)
LLAVA_13B = Decoder(layers=40, width=5120, ffn=13824, kv_width=5120)
FULL = 6272  # 32 frames of 196
T, G = 1e12, 1e9


def close(value: int | float, expected: float, digits: float = 1e-4) -> bool:
    return value == pytest.approx(expected, rel=digits)


@pytest.mark.parametrize(
    ("decoder", "x", "expected"),
    [
        (SMALL, FULL, 3.5431),
        (SMALL, FULL * 0.775, 2.4574),
        (SMALL, FULL * 0.625, 1.8287),
        (SMALL, FULL * 0.475, 1.2762),
        (SMALL, FULL * 0.55, 1.5430),
        (SEVEN, FULL, 41.4165),
        (SEVEN, FULL * 0.775, 30.8392),
        (SEVEN, FULL * 0.625, 24.2317),
        (SEVEN, 2979.2, 17.9796),
        (SEVEN, 3136, 18.9970),
        (SEVEN, 3098, 18.7495),
        (SEVEN, 3449.6, 21.0613),
        (BIG, FULL, 436.1767),
        (BIG, FULL * 0.625, 262.7869),
        (BIG, FULL * 0.475, 197.4914),
        (BIG, FULL * 0.55, 229.8491),
    ],
)
def test_dycoke_equation_8(decoder: Decoder, x: int | float, expected: float) -> None:
    assert close(dycoke(decoder, x) / T, expected)


@pytest.mark.parametrize(
    ("decoder", "r1", "expected"),
    [
        (SMALL, 0.775, 2.4427),
        (SMALL, 0.625, 1.8169),
        (SMALL, 0.475, 1.2672),
        (SEVEN, 0.775, 30.7709),
        (SEVEN, 0.625, 24.1767),
        (SEVEN, 0.475, 17.9377),
        (BIG, 0.625, 262.4272),
        (BIG, 0.475, 197.2181),
    ],
)
def test_dycoke_with_pruned_decoding(decoder: Decoder, r1: float, expected: float) -> None:
    assert close(dycoke(decoder, FULL * r1, decode_x=FULL * r1 * 0.3) / T, expected)


@pytest.mark.parametrize(
    ("decoder", "x", "expected"),
    [
        (SMALL, FULL, 3.4873),
        (SMALL, FULL * 0.475, 1.2346),
        (SEVEN, FULL, 40.7655),
        (SEVEN, FULL * 0.775, 30.2165),
        (SEVEN, FULL * 0.625, 23.6280),
        (SEVEN, FULL * 0.475, 17.3947),
        (SEVEN, 10816, 80.16),
        (BIG, FULL, 429.3249),
        (BIG, FULL * 0.475, 191.0713),
    ],
)
def test_prefill_as_the_papers_count(decoder: Decoder, x: int | float, expected: float) -> None:
    assert close(prefill(decoder, x, c2) / T, expected)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (FULL, 48.8219),
        (FULL * 0.325, 14.1351),
        (FULL * 0.25, 10.7251),
        (11648, 103.2373),
        (11648 / 4, 20.7036),
    ],
)
def test_the_stricter_count(x: int | float, expected: float) -> None:
    assert close(prefill(SEVEN, x) / T, expected)


def fastv_remaining(decoder: Decoder, layer: int, visual: int, drop: float, text: int = 0) -> float:
    """One minus the reduction of the paper's eq. 5, whose values count `text` tokens, too."""
    full, kept = text + visual, text + (1 - drop) * visual
    per_layer = [full] * layer + [kept] * (decoder.layers - layer)
    return prefill(decoder, per_layer, c2) / prefill(decoder, full, c2)


def test_fastv_per_layer() -> None:
    assert close(c2(LLAVA_7B, 612) / G, 99.3275)
    assert close(c2(LLAVA_13B, 612) / G, 154.6415)


@pytest.mark.parametrize(
    ("layer", "percents"),
    [
        (2, (55.16, 33.22, 20.21)),
        (3, (56.66, 35.45, 22.87)),
        (5, (59.64, 39.90, 28.19)),
        (0, (52.17, 28.77, 14.89)),
    ],
)
def test_fastv_table_1(layer: int, percents: tuple[float, ...]) -> None:
    for drop, percent in zip((0.5, 0.75, 0.9), percents, strict=True):
        assert 100 * fastv_remaining(LLAVA_7B, layer, 576, drop, text=36) == pytest.approx(
            percent, abs=0.005
        )


def test_fastv_without_text() -> None:
    assert 100 * fastv_remaining(LLAVA_7B, 2, 576, 0.5) == pytest.approx(52.44, abs=0.005)
    assert 100 * fastv_remaining(LLAVA_7B, 2, 2048, 0.5) == pytest.approx(50.87, abs=0.005)
    assert 100 * fastv_remaining(LLAVA_7B, 5, 2048, 0.5) == pytest.approx(55.78, abs=0.005)
    for x, expected in ((FULL, 9.3095), (10816, 17.1252)):
        assert close(fastv_remaining(SEVEN, 2, x, 0.8) * prefill(SEVEN, x, c2) / T, expected)


@pytest.mark.parametrize(
    ("tokens", "alone", "guided"),
    [
        (147, 29.0937, 32.58),
        (98, 18.4089, 21.90),
        (49, 8.7110, 12.20),
        (35, 6.1214, 9.61),
        (28, 4.8569, 8.34),
    ],
)
def test_dytok_table_16(tokens: int, alone: float, guided: float) -> None:
    assert close(prefill(SEVEN, 32 * tokens, c2) / T, alone)
    ratio = flops_ratio(SEVEN, [32.0 * tokens] * 28, FULL, SMALL, 24, c2)
    assert ratio * prefill(SEVEN, FULL, c2) / T == pytest.approx(guided, abs=0.006)


def test_flops_ratio() -> None:
    assert flops_ratio(SEVEN, [FULL] * 28, FULL) == 1.0
    assert close(flops_ratio(SEVEN, [FULL * 0.25] * 28, FULL), 10.7251 / 48.8219)
    assert flops_ratio(SEVEN, [0.0] * 28, FULL, probe_layers=28) == 1.0, (
        "a model that guides itself, read whole"
    )
    assert close(
        flops_ratio(SEVEN, [0.0] * 28, FULL, SMALL, 1), cs(SMALL, FULL) / prefill(SEVEN, FULL)
    )
    with pytest.raises(
        ValueError, match="3 token counts for a decoder of 28 layers: give one per layer"
    ):
        flops_ratio(SEVEN, [1.0, 2.0, 3.0], FULL)


@pytest.mark.parametrize(("follow", "tokens"), [("paper", 2960), ("released", 3098)])
def test_temporal_merging_of_32_frames(follow: str, tokens: int) -> None:
    frame = torch.arange(32).repeat_interleave(196)
    video = VisualTokens(
        features=torch.zeros(FULL, 1),
        keys=None,
        saliency=None,
        frame=frame,
        slot=torch.arange(196).repeat(32),
        frames=32,
        cells=196,
    )
    assert int(DyCoke(merge=0.7, follow=follow).quota(video).sum()) == tokens  # pyright: ignore[reportArgumentType]


def test_sizes_of_a_configuration() -> None:
    config = Qwen2Config(
        num_hidden_layers=28,
        hidden_size=3584,
        intermediate_size=18944,
        num_attention_heads=28,
        num_key_value_heads=4,
    )
    assert Decoder.of(config) == SEVEN
