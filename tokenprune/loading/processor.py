"""Videos and questions to model inputs, as Hugging Face's own processor makes them, without
torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from jinja2 import TemplateError
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tokenprune.errors import LoadingError, PromptError
from tokenprune.loading import native, templates
from tokenprune.loading.configuration import configuration, contents, json_in
from tokenprune.loading.hub import folder

# how an answer is generated; the neutral sampling values are there because a checkpoint's own would
# only draw a warning that greedy search ignores them
GREEDY = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
_QUOTED = 120  # characters
_RESAMPLE = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # PIL's numbers
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Pixels:
    """How frames become the tower's input; the defaults are those of
    `LlavaOnevisionVideoProcessor`.
    """

    height: int = 384
    width: int = 384
    mean: tuple[float, ...] = _CLIP_MEAN
    std: tuple[float, ...] = _CLIP_STD
    rescale: float = 1 / 255
    mode: str = "bicubic"

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Pixels:
        """From the contents of a (video) preprocessor configuration.

        LoadingError for what is not reproduced here.
        """
        size = settings.get("size", {"height": 384, "width": 384})
        if (
            not {"height", "width"} <= set(size)
            or settings.get("do_center_crop")
            or settings.get("do_resize") is False
        ):
            raise LoadingError(
                f"frames prepared with size={size}, do_resize={settings.get('do_resize')} and "
                f"do_center_crop={settings.get('do_center_crop')} are not supported: only resizing "
                "to height and width"
            )
        if settings.get("resample", 3) not in _RESAMPLE:
            raise LoadingError(
                f"resample={settings['resample']} is not supported: 0 nearest, 2 bilinear or 3 "
                "bicubic"
            )
        plain = settings.get("do_normalize") is False
        scaled = settings.get("do_rescale") is not False
        return cls(
            height=size["height"],
            width=size["width"],
            mean=(0.0, 0.0, 0.0) if plain else tuple(settings.get("image_mean", _CLIP_MEAN)),
            std=(1.0, 1.0, 1.0) if plain else tuple(settings.get("image_std", _CLIP_STD)),
            rescale=float(settings.get("rescale_factor", 1 / 255)) if scaled else 1.0,
            mode=_RESAMPLE[settings.get("resample", 3)],
        )

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3 y x"]:
        """Resizes with antialiasing in uint8, then rescales and normalises at once in float32.

        Exactly torchvision's steps on the CPU: its bicubic and bilinear `resize` of uint8 is this
        very `interpolate`.
        """
        images = frames.permute(0, 3, 1, 2)
        if images.shape[-2:] != (self.height, self.width):
            smooth = (
                {} if self.mode == "nearest-exact" else {"antialias": True, "align_corners": False}
            )
            images = interpolate(
                images.contiguous(), (self.height, self.width), mode=self.mode, **smooth
            )
        mean, std = (
            torch.tensor(part).view(-1, 1, 1) * (1.0 / self.rescale)
            for part in (self.mean, self.std)
        )
        return images.to(torch.float32).sub_(mean).div_(std)


class Processor:
    """Tokenizer, chat template and pixel settings of one checkpoint."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        pixels: Pixels,
        video_token_id: int,
        template_name: str = templates.OWN,
    ) -> None:
        self.tokenizer, self.template, self.pixels = tokenizer, template, pixels
        self.template_name = template_name  # as `template=` has it
        self.video_token_id = video_token_id  # token id of a video placeholder
        # what is split off before the tokenizer sees a prompt; None where it knows it
        self.mark = templates.mark_of(template, tokenizer, video_token_id)
        self.pad: int = (
            tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        )  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def load(cls, name: str | Path, template: str | None = None) -> Processor:
        """From an embedded model, a folder or a hub id; no weights are read.

        `template` is a name of `templates.NAMED` or a file; None: the checkpoint's own. Raises
        LoadingError, UnsupportedModelError.
        """
        home, config = folder(str(name), weights=False), configuration(str(name))
        original = native.is_native(contents(home, str(name)))
        try:
            tokenizer = AutoTokenizer.from_pretrained(home, config=config, trust_remote_code=False)
            video_token_id = config.video_token_id
        except (OSError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise LoadingError(
                f"{name} has no tokenizer for video prompts that can be read: {reason}"
            ) from None
        pixels = Pixels.of(native.frames_of(config) if original else _settings(home))
        chosen = template or (templates.NATIVE if original else templates.OWN)
        text = (
            templates.own(home, tokenizer)
            if chosen == templates.OWN
            else templates.named(chosen, config.model_type)
        )
        return cls(tokenizer, text, pixels, video_token_id, chosen)

    def prompt(self, question: str) -> str:
        """The chat turn that asks `question` about one video, up to where the answer begins.

        Raises PromptError.
        """
        turn: Any = {
            "role": "user",
            "content": [{"type": "video"}, {"type": "text", "text": question}],
        }
        try:
            return self.tokenizer.apply_chat_template(  # pyright: ignore[reportReturnType]
                [turn],
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except TemplateError as error:
            raise PromptError(
                f"the chat template does not take the question {shorten(question)}: {error}"
            ) from None

    def text_tokens(self, question: str) -> int:
        """Tokens of the prompt that asks `question`, without its video. Raises PromptError."""
        return len(self._marked(self.prompt(question), question, add_special_tokens=True)) - 1

    def encode(
        self,
        samples: Sequence[tuple[UInt8[Tensor, "f _ _ 3"], str]],
        cells: int,
        separators: int = 1,
    ) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` [b s], padded on the left, and float32
        `pixel_values_videos` [b f 3 h w].

        A video of f frames gets `f * cells + separators` placeholders. Raises PromptError for
        videos of unequal length and for a question that holds a control token of the checkpoint,
        the placeholder among them.
        """
        lengths = {len(frames) for frames, _ in samples}
        if len(lengths) != 1:
            raise PromptError(
                f"one batch holds videos of {sorted(lengths)} frames: choose as many of each, or "
                "batches of 1"
            )
        placeholders = lengths.pop() * cells + separators
        rows = [self._ids(question, placeholders) for _, question in samples]
        ids = torch.full((len(rows), max(map(len, rows))), self.pad)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, -len(row) :], mask[index, -len(row) :] = row, 1
        pixels = torch.stack([self.pixels(frames) for frames, _ in samples])
        return {"input_ids": ids, "attention_mask": mask, "pixel_values_videos": pixels}

    def _ids(self, question: str, placeholders: int) -> Int[Tensor, "s"]:
        if held := self._special(question):
            raise PromptError(
                f"the question {shorten(question)} must not contain {held}, which the checkpoint "
                "reads as a control "
                "token and not as text: write it differently, with a blank inside for example"
            )
        text = self.prompt(question)
        begun = self.tokenizer.bos_token is not None and text.startswith(
            str(self.tokenizer.bos_token)
        )
        ids = torch.tensor(
            self._marked(text, question, add_special_tokens=not begun), dtype=torch.long
        )
        video = ids == self.video_token_id
        if int(video.sum()) != 1:
            token = self.mark or self.tokenizer.convert_ids_to_tokens(self.video_token_id)
            raise PromptError(
                f"the prompt of the question {shorten(question)} holds {int(video.sum())} times "
                f"{token}, which stands "
                "for the video, and not once: the chat template of the checkpoint does not fit"
            )
        return ids.repeat_interleave(torch.where(video, placeholders, 1))

    def _special(self, question: str) -> str:
        """The first control token that a question would be read as having; empty if it is text
        throughout.
        """
        if self.mark is not None and self.mark in question:
            return self.mark
        known = self.tokenizer.added_tokens_decoder
        special = {
            self.video_token_id,
            *self.tokenizer.all_special_ids,
            *(i for i, token in known.items() if token.special),
        }
        special.discard(self.tokenizer.unk_token_id)  # of a word that the tokenizer does not know
        found = next(
            (i for i in self._tokens(question, question, add_special_tokens=False) if i in special),
            None,
        )
        return "" if found is None else str(self.tokenizer.convert_ids_to_tokens(found))

    def _marked(self, text: str, question: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of a whole prompt; a mark that the tokenizer does not know becomes the placeholder's
        id, as in the llava package.
        """
        first, *parts = [text] if self.mark is None else text.split(self.mark)
        ids = self._tokens(first, question, add_special_tokens=add_special_tokens)
        for part in parts:
            ids += [
                self.video_token_id,
                *self._tokens(part, question, add_special_tokens=False),
            ]
        return ids

    def _tokens(self, text: str, question: str, *, add_special_tokens: bool) -> list[int]:
        try:
            made: Any = self.tokenizer(text, add_special_tokens=add_special_tokens)
            return made["input_ids"]
        except Exception as error:  # a tokenizer's own: half a character, no text at all
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise PromptError(
                f"the tokenizer does not take the question {shorten(question)} ({reason})"
            ) from None

    def decode(self, ids: Int[Tensor, "b s"]) -> list[str]:
        """The texts of generated ids, without special tokens and surrounding blanks."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def shorten(question: str) -> str:
    """As it is quoted in a message, where it may be a page long."""
    return repr(question if len(question) <= _QUOTED else question[:_QUOTED] + "...")


def _settings(home: Path) -> dict[str, Any]:
    """The first of the files that Hugging Face's video processors read, in its order."""
    if (nested := home / "processor_config.json").is_file() and "video_processor" in (
        settings := json_in(nested)
    ):
        return settings["video_processor"]
    for file in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (home / file).is_file():
            return json_in(home / file)
    raise LoadingError(
        f"{home.name} holds no video_preprocessor_config.json, which says how frames are prepared"
    )
