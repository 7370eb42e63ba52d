"""The embedded model: stock LLaVA-OneVision classes with small numbers, written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from experiments.tiny import settings
from experiments.tiny.settings import MEAN, STD
from experiments.tiny.text import END, IMAGE, PAD, VIDEO, ids
from tokenprune.tasks.scenes import SIZE

PATCH = 8
_GAZE = 4.5  # how sharply the tower's heads look at one neighbour at first: the logit of its patch


class Scale(NamedTuple):
    """How large a model is: widths, inner widths of an MLP, and layers of tower and decoder."""

    tower: tuple[int, int, int]
    decoder: tuple[int, int, int]


SCALES = {  # 2.74 and 0.59 million parameters
    "tiny": Scale(tower=(128, 256, 4), decoder=(128, 768, 6)),
    "nano": Scale(tower=(80, 160, 3), decoder=(64, 320, 5)),
}


def config(tokens: PreTrainedTokenizerFast, scale: Scale) -> LlavaOnevisionConfig:
    """A frame of 96 pixels is 12 x 12 patches, 6 x 6 tokens after pooling."""
    padding, end, image, video = ids(tokens, PAD, END, IMAGE, VIDEO)
    vision = SiglipVisionConfig(
        hidden_size=scale.tower[0],
        intermediate_size=scale.tower[1],
        num_hidden_layers=scale.tower[2],
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=len(tokens),
        hidden_size=scale.decoder[0],
        intermediate_size=scale.decoder[1],
        num_hidden_layers=scale.decoder[2],
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        # With the default of 0.02 the model stays for hundreds of steps on a plateau where it knows
        # which colours are present but not which shape bears which.
        initializer_range=scale.decoder[0] ** -0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=padding,
    )
    return LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image,
        video_token_index=video,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[SIZE, SIZE]],
        tie_word_embeddings=True,
    )


def look_around(tower: SiglipVisionModel) -> None:
    """Starts the tower's four heads as looks at the four neighbours, like a convolution.

    Left, right, upper and lower.

    From a random start, a tower this small knows colours after 50 steps but needs thousands to find
    out which patches are neighbours, and so what shape an object has. Positions become sines and
    cosines of column and row in the channels of the first head; queries read them, keys read them
    rotated by one patch. All of it remains trainable.
    """
    side, heads = SIZE // PATCH, 4
    # channels of one head: a quarter for each of sin x, cos x, sin y, cos y
    reach = tower.config.hidden_size // heads
    gaze = (2 * _GAZE / reach**0.5) ** 0.5
    # spread evenly: their sum peaks sharply
    pitch = torch.arange(1, reach // 4 + 1) * torch.pi / (reach // 4 + 1)
    column, row = torch.arange(side).repeat(side), torch.arange(side).repeat_interleave(side)
    waves = [
        wave(place[:, None] * pitch) for place in (column, row) for wave in (torch.sin, torch.cos)
    ]
    layers: Any = tower.encoder.layers
    with torch.no_grad():
        tower.embeddings.position_embedding.weight[:, :reach] = torch.cat(waves, 1)
        for head, step in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
            rows = slice(head * reach, (head + 1) * reach)
            turn = torch.block_diag(*[_rotation(pitch * by) for by in step])
            for layer in layers:
                for matrix, value in (
                    (layer.self_attn.q_proj, torch.eye(reach)),
                    (layer.self_attn.k_proj, turn),
                ):
                    matrix.weight[rows] *= 0.3
                    matrix.weight[rows, :reach] += gaze * value


def _rotation(angle: Tensor) -> Tensor:
    """Turns sines and cosines, stacked, by the angles [w]: float [2w 2w]."""
    sin, cos = torch.diag(torch.sin(angle)), torch.diag(torch.cos(angle))
    return torch.cat([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)])


def build(tokens: PreTrainedTokenizerFast, scale: Scale) -> LlavaOnevisionForConditionalGeneration:
    """A freshly initialised model.

    Projections into the residual stream start smaller, as in GPT-2.
    """
    model = LlavaOnevisionForConditionalGeneration(config(tokens, scale))
    look_around(model.model.vision_tower)
    with torch.no_grad():
        # video tokens start about as long as words
        model.model.multi_modal_projector.linear_2.weight.mul_(0.25)
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.mul_((2 * scale.decoder[2]) ** -0.5)
            layer.mlp.down_proj.weight.mul_((2 * scale.decoder[2]) ** -0.5)
    end, padding = ids(tokens, END, PAD)
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=padding, do_sample=False, max_new_tokens=32
    )
    return model


def normalise(frames: Tensor) -> Tensor:
    """Pixels uint8 [b f h w 3] as the tower takes them: float [b f 3 h w]."""
    return (frames.permute(0, 1, 4, 2, 3).float() / 255 - MEAN) / STD


def save(
    model: LlavaOnevisionForConditionalGeneration, tokens: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Everything `from_pretrained` needs.

    bfloat16 holds what training saw: its matrix products ran on such weights.
    """
    model.bfloat16().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokens.save_pretrained(folder)
    settings.write(folder)
