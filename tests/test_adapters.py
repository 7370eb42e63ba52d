"""A family that is made up in a few lines beside one of ours: what a new one has to bring.

All of ours are in `test_families`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from jaxtyping import Float
from models import PAD, VIDEO, llava_onevision, prompt
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    PreTrainedConfig,
)

from tokenprune import attach, ops
from tokenprune.adapters import VideoLLM, adapt, families
from tokenprune.adapters.llava import Llava, patches_of
from tokenprune.errors import UnsupportedModelError
from tokenprune.lookup import FAMILIES

GREEDY = {"max_new_tokens": 4, "do_sample": False}


class MadeUpConfig(LlavaNextVideoConfig):
    model_type = "made_up"


class MadeUpForConditionalGeneration(LlavaNextVideoForConditionalGeneration):
    """A family that transformers knows nothing of, as a researcher's own file would have it."""

    config_class = MadeUpConfig


def made_up_model() -> Any:
    """CLIP with a CLS token, average pooling, no newline, Llama."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vision_config": CLIPVisionConfig(
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=48,
            patch_size=8,
            projection_dim=24,
        ),
        "text_config": LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=5,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.3,
            pad_token_id=PAD,
            eos_token_id=None,
            bos_token_id=None,
        ),
        "image_token_index": 6,
        "video_token_index": VIDEO,
        "tie_word_embeddings": False,
        "image_grid_pinpoints": [[48, 48]],
    }
    model = MadeUpForConditionalGeneration(MadeUpConfig(**settings)).eval()
    model.generation_config.pad_token_id = PAD
    return model


@pytest.fixture
def made_up() -> Iterator[type[VideoLLM]]:
    """A family as its file would declare it."""
    families()
    before = dict(FAMILIES.defined)

    class MadeUp(Llava, model_type="made_up"):
        """`MadeUpForConditionalGeneration` of any size."""

        @classmethod
        def side(cls, config: PreTrainedConfig) -> int:
            return patches_of(config) // 2

        def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
            return ops.pool2d(maps[:, 1:], "average")  # CLS goes first

    yield MadeUp
    FAMILIES.defined.clear()
    FAMILIES.defined.update(before)


# by `model_type`: a small random model
MODELS = {"llava_onevision": llava_onevision, "made_up": made_up_model}


def asked(adapter: VideoLLM, frames: int = 4, texts: Any = ((4, 5),)) -> dict[str, Tensor]:
    """A prompt of `models.prompt`, with as many placeholders as the family has."""
    inputs = prompt(frames, texts)
    if adapter.separators:
        return inputs
    rows = [row[row != PAD] for row in inputs["input_ids"]]
    rows = [torch.cat([row[: first(row)], row[first(row) + 1 :]]) for row in rows]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), PAD)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = row
    return {**inputs, "input_ids": ids, "attention_mask": (ids != PAD).long()}


def first(row: Tensor) -> int:
    """Where the video begins."""
    return int((row == VIDEO).nonzero()[0])


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("kind", MODELS)
class TestFamily:
    def test_the_parts_are_the_models(self, kind: str) -> None:
        model = MODELS[kind]()
        adapter = adapt(model)
        inputs = asked(adapter)
        assert adapter.model_type == model.config.model_type == kind
        assert adapter.depth == 5
        rows = adapter.placeholders(inputs["input_ids"], None)
        assert int(rows.sum()) == 4 * adapter.cells + adapter.separators
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        assert torch.equal(adapter.placeholders(None, embeds), rows)

    @torch.no_grad()
    def test_embed_is_what_the_language_model_gets(self, kind: str) -> None:
        model = MODELS[kind]()
        adapter: Any = adapt(model)
        inputs, seen = asked(adapter), []

        def spy(module: Any, args: Any, kwargs: Any) -> None:
            seen.append(kwargs["inputs_embeds"])

        handle = adapter.language_model.register_forward_pre_hook(spy, with_kwargs=True)
        model(**inputs)
        handle.remove()
        own = adapter.embed(inputs["input_ids"], inputs["pixel_values_videos"])
        assert torch.equal(own, seen[0])

    @torch.no_grad()
    def test_pool_is_the_models(self, kind: str) -> None:
        """The first family pools behind its projector and the second before it: it is the same."""
        model = MODELS[kind]()
        adapter: Any = adapt(model)
        pixels = prompt(3)["pixel_values_videos"][0]
        states = adapter.tower(pixels, output_hidden_states=True).hidden_states
        maps = states[model.config.vision_feature_layer]
        body: Any = adapter.body
        if kind == "llava_onevision":
            expected = body.apply_pooling(maps)
        else:
            expected = body.vision_resampler(maps[:, 1:])
        assert torch.allclose(adapter.pool(maps), expected, atol=1e-6)
        assert expected.shape[1] == adapter.cells

    @pytest.mark.parametrize("spec", ["none", "uniform", "fastv", "fastv+dytok", "dycoke"])
    def test_all_kept_is_the_stock_model(self, kind: str, spec: str) -> None:
        whole: dict[str, dict[str, Any]] = {
            "uniform": {"uniform.keep": 1.0},
            "fastv": {"fastv.drop": 0.0},
            "fastv+dytok": {"fastv.drop": 0.0},
            "dycoke": {"dycoke.merge": 0.0, "dycoke.prune": 0.0},
        }
        model = MODELS[kind]()
        inputs = asked(adapt(model), texts=((4, 5), (1, 9)))
        stock = model.generate(**inputs, **GREEDY)
        with attach(model, spec, whole.get(spec)) as session:
            assert torch.equal(model.generate(**inputs, **GREEDY), stock)
        assert session.report[0].layer_average_ratio == 1.0

    @pytest.mark.parametrize("spec", ["visionzip", "prumerge", "fastv", "dycoke", "fastv+dytok"])
    def test_strategies_compress_it(self, kind: str, spec: str) -> None:
        model = MODELS[kind]()
        adapter = adapt(model)
        inputs = asked(adapter, texts=((4, 5), (1, 9)))
        alone = {name: part[:1] for name, part in inputs.items()}
        with attach(model, spec) as session:
            both = model.generate(**inputs, **GREEDY)
            one = model.generate(**alone, **GREEDY)
        assert torch.equal(both[:1], one)
        assert session.reports[0][0].full == 4 * adapter.cells
        assert session.reports[0][0].layer_average_ratio < 1.0


@pytest.mark.usefixtures("made_up")
def test_a_part_of_a_model_is_refused() -> None:
    for kind, whole in (
        ("llava_onevision", "LlavaOnevisionForConditionalGeneration"),
        ("made_up", "LlavaNextVideoForConditionalGeneration"),
    ):
        with pytest.raises(UnsupportedModelError, match=f"is not a whole model: load {whole}"):
            adapt(MODELS[kind]().model)
