"""Videos and questions to model inputs, as transformers' own processors make them, without
torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tokenprune.adapters import families
from tokenprune.adapters.preparation import Preparation
from tokenprune.errors import LoadingError, PromptError
from tokenprune.loading import native, templates
from tokenprune.loading.configuration import configuration, contents, frame_settings
from tokenprune.loading.hub import folder
from tokenprune.loading.media import Media, Medium, media_of
from tokenprune.loading.prompts import Seen, Slot, Way, filled
from tokenprune.loading.spelling import Run, Spelling, padded, shorten
from tokenprune.loading.variant import STOCK, Variant
from tokenprune.pixels import Kind
from tokenprune.tokens import Video

# how an answer is generated; the neutral sampling values are there because a checkpoint's own would
# only draw a warning that greedy search ignores them
GREEDY = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
ONE = Video(1, 1, 1)  # the least that a prompt can show


class Processor:
    """Tokenizer, chat template and the family's preparation of videos, of one checkpoint.

    `pictures` is how images beside videos are prepared, and the token id of their placeholder.
    `time_instruction`: whether questions follow one on the video's times.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        preparation: Preparation,
        video_token_id: int,
        template_name: str = templates.OWN,
        pictures: tuple[Preparation, int] | None = None,
        time_instruction: bool = False,
    ) -> None:
        self.time_instruction = time_instruction
        self.tokenizer, self.template, self.preparation = tokenizer, template, preparation
        self.template_name = template_name  # as `template=` has it
        self.video_token_id = video_token_id  # token id of a video placeholder
        mark = None
        if preparation.marker is None:  # else the template writes no placeholders
            mark = templates.mark_of(template, tokenizer, video_token_id)
        self.spelling = Spelling(tokenizer, video_token_id, mark)
        self.videos = self._way(preparation, video_token_id)
        self.images = None if pictures is None else self._way(*pictures)
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
        if chosen == templates.NATIVE:
            text = templates.spelt(text, tokenizer, placeholder)
        preparation = family.preparation(config, settings)
        try:
            images = family.pictures(config, lambda: frame_settings(home, "image_processor"))
        except LoadingError:  # videos need none
            images = None
        pictures = None if images is None else (images, config.image_token_id)
        times = variant.time_instruction
        return cls(tokenizer, text, preparation, placeholder, chosen, pictures, times)

    def _way(self, preparation: Preparation, token: int) -> Way:
        return Way(preparation, token, preparation.marker or self.spelling.written(token))

    @property
    def pixels(self) -> Kind:
        return self.preparation.pixels

    def told(self, question: str, times: Sequence[float] | None, duration: float | None) -> str:
        """The question behind what it has to say of the video's times, if anything.

        PromptError where they are not known.
        """
        if not self.time_instruction:
            return question
        if times is None or duration is None:
            raise PromptError(
                "the times of the frames are not known: leave time_instruction= out, or ask about "
                "video files"
            )
        return f"{templates.time_instruction(times, duration)}\n{question}"

    def prompt(self, question: str, media: Sequence[str] | None = None) -> str:
        """The chat turn that asks `question` about one video, up to where the answer begins.

        `media`: what it announces, in order, `video` or `image`; None: one video, or one of its
        frames in a family whose frames are images. Raises PromptError.
        """
        media = [self.preparation.entry] if media is None else media
        content = [*({"type": kind} for kind in media), {"type": "text", "text": question}]
        turn: Any = {"role": "user", "content": content}
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
        pieces = self._pieces(question, [Slot(self.videos, text) for text in written])
        ids, _ = self.spelling.ids(pieces, question)
        return len(ids) - ids.count(self.video_token_id)

    def encode(self, samples: Sequence[tuple[Media, str]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` [b s], padded on the left, and the family's own tensors.

        A sample is a question about a video, uint8 [f h w 3], or about several videos and images
        [h w 3], in order; a `Medium` also says when its frames appear. The tensors are float32
        `pixel_values_videos` [v f 3 h w], or what the family takes in their place
        (`adapters.preparation`), such as flat patches with `video_grid_thw`. Raises PromptError for
        a question that holds a control token of the checkpoint, the placeholder among them, for
        images where the family has none, and, where it takes no others, for videos of unequal
        length.
        """
        seen = [self.look(media) for media, _ in samples]
        tensors = self.media(seen)  # which says more of a batch that cannot be
        return self.words(seen, [asked for _, asked in samples]) | tensors

    def look(self, media: Media) -> list[Seen]:
        """What a sample shows, prepared: for any number of questions. Raises PromptError."""
        return [self._seen(one) for one in media_of(media)]

    def media(self, seen: Sequence[Sequence[Seen]]) -> dict[str, Tensor]:
        """The part of `encode` that brings videos and images, by sample. Raises PromptError."""
        tensors: dict[str, Tensor] = {}
        for way in self._ways:
            if every := [one.shown for own in seen for one in own if one.way is way]:
                tensors |= way.preparation.tensors(every)
        return tensors

    def words(
        self, seen: Sequence[Sequence[Seen]], questions: Sequence[str]
    ) -> dict[str, Int[Tensor, "b s"]]:
        """The part of `encode` that says what is asked, with placeholders for what is `seen`.

        Raises PromptError.
        """
        rows = [self._ids(own, asked) for own, asked in zip(seen, questions, strict=True)]
        ids, mask = padded(rows, self.pad)
        made = {"input_ids": ids, "attention_mask": mask}
        for way in self._ways:
            if way.preparation.types is not None:
                name, kind = way.preparation.types
                made[name] = made.get(name, 0) + kind * (ids == way.token).long()
        return made

    @property
    def _ways(self) -> list[Way]:
        return [self.videos] if self.images is None else [self.videos, self.images]

    def _seen(self, medium: Tensor | Medium) -> Seen:
        frames, times = medium if isinstance(medium, Medium) else (medium, None)
        if frames.ndim == 4:
            return Seen(self.videos, self.preparation.prepared(frames, times))
        if self.images is None:
            raise PromptError("this checkpoint is asked about videos only: leave out images")
        return Seen(self.images, self.images.preparation.prepared(frames.unsqueeze(0), times))

    def _ids(self, seen: Sequence[Seen], question: str) -> Int[Tensor, "s"]:
        self.spelling.check(question, [way.marker for way in (self.videos, self.images) if way])
        slots = [slot for one in seen for slot in one.slots]
        ids, repeats = self.spelling.ids(self._pieces(question, slots), question)
        return torch.tensor(ids).repeat_interleave(torch.tensor(repeats))

    def _pieces(self, question: str, slots: Sequence[Slot]) -> list[str | Run]:
        """The prompt, with what is written in place of its markers. Raises PromptError."""
        marker = self.videos.marker
        text = self.prompt(question, [slot.way.preparation.entry for slot in slots])
        pieces = filled(text, slots)
        if pieces is None:
            raise self.spelling.unfit(question, marker, text.count(marker), len(slots))
        return pieces

    def decode(self, ids: Int[Tensor, "b s"]) -> list[str]:
        """The texts of generated ids, without special tokens and surrounding blanks."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
