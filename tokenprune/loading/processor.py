"""Videos and questions to model inputs, as transformers' own processors make them, without
torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int, UInt8
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tokenprune.adapters import families
from tokenprune.adapters.preparation import Preparation, Shown, Written
from tokenprune.errors import LoadingError, PromptError
from tokenprune.loading import native, templates
from tokenprune.loading.configuration import configuration, contents, frame_settings
from tokenprune.loading.hub import folder
from tokenprune.loading.spelling import Spelling, padded, shorten
from tokenprune.loading.variant import STOCK, Variant
from tokenprune.pixels import Kind
from tokenprune.tokens import Video

# how an answer is generated; the neutral sampling values are there because a checkpoint's own would
# only draw a warning that greedy search ignores them
GREEDY = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
ONE = Video(1, 1, 1)  # the least that a prompt can show


class Medium(NamedTuple):
    """A video of a prompt; None: its frames are a second apart."""

    frames: UInt8[Tensor, "f h w 3"]
    times: Sequence[float] | None = None  # seconds at which they appear


Media = Tensor | Medium | Sequence[Tensor | Medium]


class Processor:
    """Tokenizer, chat template and the family's preparation of videos, of one checkpoint."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        preparation: Preparation,
        video_token_id: int,
        template_name: str = templates.OWN,
    ) -> None:
        self.tokenizer, self.template, self.preparation = tokenizer, template, preparation
        self.template_name = template_name  # as `template=` has it
        self.video_token_id = video_token_id  # token id of a video placeholder
        mark = templates.mark_of(template, tokenizer, video_token_id)
        self.spelling = Spelling(tokenizer, video_token_id, mark)
        self.pad: int = (
            tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        )  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def load(cls, name: str | Path, variant: Variant = STOCK) -> Processor:
        """From an embedded model, a folder or a hub id; no weights are read.

        `variant` chooses the chat template, by a name of `templates.NAMED` or a file. Raises
        LoadingError, UnsupportedModelError.
        """
        home, config = folder(str(name), weights=False), configuration(str(name), variant)
        family = families()[config.model_type]
        original = native.is_native(contents(home, str(name)))
        try:
            tokenizer = AutoTokenizer.from_pretrained(home, config=config, trust_remote_code=False)
            placeholder = family.placeholder_of(config)
        except (OSError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise LoadingError(
                f"{name} has no tokenizer for video prompts that can be read: {reason}"
            ) from None
        settings = native.frames_of(config) if original else frame_settings(home, family.reads)
        chosen = variant.template or templates.OWN
        if chosen == templates.OWN and original:
            chosen = templates.NATIVE
        text = (
            templates.own(home, tokenizer)
            if chosen == templates.OWN
            else templates.named(chosen, config.model_type)
        )
        preparation = family.preparation(config, settings)
        return cls(tokenizer, text, preparation, placeholder, chosen)

    @property
    def pixels(self) -> Kind:
        return self.preparation.pixels

    @property
    def marker(self) -> str:
        """What the chat template writes for a video, or for each of its frames."""
        return self.preparation.marker or self.spelling.written

    def prompt(self, question: str, entries: int = 1) -> str:
        """The chat turn that asks `question` about one video, up to where the answer begins.

        `entries`: how many videos, or images of frames, it announces. Raises PromptError.
        """
        media = [{"type": self.preparation.entry}] * entries
        turn: Any = {"role": "user", "content": [*media, {"type": "text", "text": question}]}
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

    def text_tokens(self, question: str, video: Video = ONE) -> int:
        """Tokens of the prompt that asks `question`, without the visual ones of its video.

        Where a family writes text between frames, it is that of `video`. Raises PromptError.
        """
        seconds = tuple(map(float, range(video.frames)))
        written = self.preparation.written(video, seconds)
        ids, _ = self.spelling.ids(self._pieces(question, written), question)
        return len(ids) - ids.count(self.video_token_id)

    def encode(self, samples: Sequence[tuple[Media, str]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` [b s], padded on the left, and the family's own tensors.

        A sample is a question about a video, uint8 [f h w 3], or about several: a `Medium` also
        says when its frames appear. The tensors are float32 `pixel_values_videos` [v f 3 h w], or
        what the family takes in their place (`adapters.preparation`), such as flat patches with
        `video_grid_thw`. Raises PromptError for a question that holds a control token of the
        checkpoint, the placeholder among them, and, where the family takes no others, for videos of
        unequal length.
        """
        shown = [[self._shown(one) for one in media_of(media)] for media, _ in samples]
        every = [one for own in shown for one in own]
        tensors = self.preparation.tensors(every)
        rows = [self._ids(own, asked) for own, (_, asked) in zip(shown, samples, strict=True)]
        ids, mask = padded(rows, self.pad)
        made = {"input_ids": ids, "attention_mask": mask}
        if self.preparation.types is not None:
            name, kind = self.preparation.types
            made[name] = kind * (ids == self.video_token_id).long()
        return made | tensors

    def _shown(self, medium: Tensor | Medium) -> Shown:
        frames, times = medium if isinstance(medium, Medium) else (medium, None)
        return self.preparation.prepared(frames, times)

    def _ids(self, shown: Sequence[Shown], question: str) -> Int[Tensor, "s"]:
        self.spelling.check(question, [self.marker])
        written: list[Written] = []
        for one in shown:
            moments = self.preparation.moments(one.times)
            written += self.preparation.written(one.video, moments)
        ids, repeats = self.spelling.ids(self._pieces(question, written), question)
        return torch.tensor(ids).repeat_interleave(torch.tensor(repeats))

    def _pieces(self, question: str, written: Sequence[Written]) -> list[str | int]:
        """The prompt, with what is written in place of its markers. Raises PromptError."""
        first, *parts = self.prompt(question, len(written)).split(self.marker)
        if len(parts) != len(written):
            raise self.spelling.unfit(question, self.marker, len(parts), len(written))
        pieces: list[str | int] = [first]
        for own, text in zip(written, parts, strict=True):
            pieces += [*own, text]
        return pieces

    def decode(self, ids: Int[Tensor, "b s"]) -> list[str]:
        """The texts of generated ids, without special tokens and surrounding blanks."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def media_of(given: Media) -> list[Tensor | Medium]:
    """The videos of a sample, in order."""
    return [given] if isinstance(given, Tensor | Medium) else [*given]
