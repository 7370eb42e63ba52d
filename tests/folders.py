"""Checkpoints without weights: configuration, tokenizer, chat template and settings of each family,
as small as can be.

Golden ids are made of them, where tokenprune need not be installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast

# the one turn that is asked, of the templates of the released checkpoints
_MEDIA = "{% for content in message['content'] %}{% if content['type'] == "
_CHAT = (
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n{media}"
    "{{% elif content['type'] == 'text' %}}{{{{ content['text'] }}}}{{% endif %}}{{% endfor %}}"
    "<|im_end|>\n{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
_PICTURE = "'image' %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == "
_VIDEO = "'video' %}<|vision_start|><|video_pad|><|vision_end|>"
_QWEN = _CHAT.format(media=_MEDIA + _PICTURE + _VIDEO)
_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
_VICUNA = (
    "{% for message in messages %}USER: {% for content in message['content'] %}"
    "{% if content['type'] == 'video' %}<video>\n{% endif %}{% endfor %}"
    "{% for content in message['content'] %}{% if content['type'] == 'text' %}"
    "{{ content['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>user\n"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}<start_of_image>"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_CHATML = ["<|im_start|>", "<|im_end|>"]
_QWEN_SPECIAL = [*_CHATML, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
_TEXT = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
_CLIP = {"image_size": 56, "patch_size": 14, "hidden_size": 24, "num_hidden_layers": 2}
_BUDGET = {"shortest_edge": 4 * 28 * 28, "longest_edge": 12 * 28 * 28}


@dataclass(frozen=True)
class Folder:
    """One family's files. `config` names tokens by their text, in place of their ids."""

    special: list[str]
    template: str
    config: dict[str, Any]
    tokens: dict[str, str]
    settings: dict[str, Any]
    bos: str | None = None
    named: dict[str, str] = field(default_factory=dict)  # of a tokenizer's own attributes

    def write(self, kind: str, home: Path) -> Path:
        """Into `home`, for the family `kind`."""
        home.mkdir(parents=True, exist_ok=True)
        tokenizer = spelled(self.special, self.bos, self.named)
        tokenizer.save_pretrained(home)
        ids = {name: tokenizer.convert_tokens_to_ids(text) for name, text in self.tokens.items()}
        AutoConfig.for_model(kind, **self.config, **ids).save_pretrained(home)
        (home / "chat_template.jinja").write_text(self.template, encoding="utf-8")
        (home / "preprocessor_config.json").write_text(json.dumps(self.settings))
        return home


def spelled(
    special: list[str], bos: str | None = None, named: dict[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """Letter by letter, but for line breaks, which are merged as in Gemma's tokenizer."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), ("ĊĊ", "ĊĊ")]
    pieces = [*letters, *("".join(pair) for pair in merges)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    every = ["<pad>", *([bos] if bos else []), *special]
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in every])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token=bos,
        extra_special_tokens=named or {},
    )


FOLDERS = {
    "llava_onevision": Folder(
        special=[*_CHATML, "<image>", "<video>"],
        template=_CHAT.format(media=_MEDIA + "'video' %}<video>"),
        config={"vision_config": {**_CLIP, "model_type": "siglip_vision_model"}},
        tokens={"image_token_index": "<image>", "video_token_index": "<video>"},
        settings={"size": {"height": 56, "width": 56}},
    ),
    "llava_next_video": Folder(
        special=["<image>", "<video>"],
        template=_VICUNA,
        config={"vision_config": {**_CLIP, "model_type": "clip_vision_model"}},
        tokens={"image_token_index": "<image>", "video_token_index": "<video>"},
        settings={"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}},
    ),
    "video_llava": Folder(
        special=["<image>", "<video>"],
        template=_VICUNA,
        config={"vision_config": {**_CLIP, "model_type": "clip_vision_model"}},
        tokens={"image_token_index": "<image>", "video_token_index": "<video>"},
        settings={"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}},
    ),
    "qwen2_vl": Folder(
        special=_QWEN_SPECIAL,
        template=_SYSTEM + _QWEN,
        config={},
        tokens={"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"},
        settings={"size": _BUDGET, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2},
    ),
    "qwen2_5_vl": Folder(
        special=_QWEN_SPECIAL,
        template=_SYSTEM + _QWEN,
        config={},
        tokens={"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"},
        settings={"min_pixels": 3136, "max_pixels": 20000, "patch_size": 14, "merge_size": 2},
    ),
    "qwen3_vl": Folder(
        special=_QWEN_SPECIAL,
        template=_QWEN,
        config={},
        tokens={
            "image_token_id": "<|image_pad|>",
            "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|vision_start|>",
            "vision_end_token_id": "<|vision_end|>",
        },
        settings={
            "size": {"shortest_edge": 4096, "longest_edge": 60000},
            "patch_size": 16,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        },
    ),
    "internvl": Folder(
        special=[*_CHATML, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
        template=_CHAT.format(media=_MEDIA + "'video' %}<video>\n"),
        config={
            "vision_config": {**_CLIP, "image_size": [56, 56], "patch_size": [14, 14]},
            "image_seq_length": 4,
        },
        tokens={"image_token_id": "<IMG_CONTEXT>"},
        settings={
            "size": {"height": 56, "width": 56},
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
        named={
            "context_image_token": "<IMG_CONTEXT>",
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "video_token": "<video>",
        },
    ),
    "gemma3": Folder(
        special=[
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ],
        template=_GEMMA,
        bos="<bos>",
        config={
            "vision_config": {**_CLIP, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
        },
        tokens={
            "image_token_index": "<image_soft_token>",
            "boi_token_index": "<start_of_image>",
            "eoi_token_index": "<end_of_image>",
        },
        settings={"size": {"height": 56, "width": 56}},
        named={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    ),
}
