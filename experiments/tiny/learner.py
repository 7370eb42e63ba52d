"""The training step: loss on every answer behind a video, plus the alignment of projected tokens with words."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import cast

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPooling

from experiments.tiny import optimizer
from experiments.tiny.data import Batch, Load
from experiments.tiny.model import WIDTH, build, normalise
from experiments.tiny.text import PROMPT_START, ids
from tokenprune.tasks.scenes import COLOURS, SHAPES
from tokenprune.tasks.tinyvqa import FAMILIES

_SHARPNESS = 3.0  # of the alignment's logits: keeps projected tokens about as long as word embeddings
_ALIGNMENT = 0.5  # weight of the alignment loss


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum."""

    load: Load
    steps: int
    rate: float = 1.0  # factor on the learning rates

    @classmethod
    def parse(cls, text: str) -> Stage:
        """`8x12x16:500@0.5`: 500 steps of 12 videos of 8 frames, 16 questions each, at half the rate."""
        size, _, rest = text.partition(":")
        steps, _, rate = rest.partition("@")
        frames, videos, questions = map(int, size.split("x"))
        return cls(Load(frames, videos, questions), int(steps), float(rate or 1))


@dataclass(frozen=True)
class Pace:
    """The learning rate: warm-up, a constant per stage, linear decay at the end."""

    rate: float  # of AdamW
    muon_rate: float
    stages: tuple[Stage, ...]
    warmup: int
    decay: int

    def __call__(self, step: int) -> float:
        ends = list(itertools.accumulate(stage.steps for stage in self.stages))
        stage = self.stages[min(bisect.bisect_right(ends, step), len(ends) - 1)]
        return stage.rate * min((step + 1) / self.warmup, 1.0, max(ends[-1] - step, 1) / self.decay)


class Learner(lightning.LightningModule):
    """Stock model inside; everything that is only needed for training stays outside of it."""

    def __init__(self, tokens: PreTrainedTokenizerFast, pace: Pace, freeze_from: int) -> None:
        super().__init__()
        self.model = build(tokens)
        self.nothing = nn.Parameter(torch.randn(2, 1, WIDTH) * WIDTH**-0.5)  # "no colour", "no shape"
        self.pace, self.freeze_from = pace, freeze_from
        start = torch.tensor(tokens(PROMPT_START)["input_ids"])
        words = torch.tensor([[ids(tokens, w, f"Ġ{w}") for w in ws] for ws in (COLOURS, SHAPES)])
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("words", words, persistent=False)  # int64 [2 words 2]
        self.start: Tensor
        self.words: Tensor

    def look(self, frames: Tensor) -> Tensor:
        """Projected and pooled tokens, the newline last: float [b f*c+1 d]."""
        seen = self.model.model.get_video_features(normalise(frames))
        return cast(Tensor, cast(BaseModelOutputWithPooling, seen).pooler_output)

    def answer(self, batch: Batch, video: Tensor) -> Tensor:
        """Logits float [n v] where a target is asked, row by row."""
        decoder = self.model.model.language_model
        start = decoder.embed_tokens(self.start).expand(len(video), -1, -1)
        sequence = torch.cat([start, video.to(start.dtype), decoder.embed_tokens(batch.text)], 1)
        prefix = sequence.shape[1] - batch.text.shape[1]
        hidden = decoder(
            inputs_embeds=sequence,
            attention_mask=batch.mask(prefix),
            position_ids=batch.positions(prefix),
            use_cache=False,
        ).last_hidden_state
        return self.model.lm_head(hidden[:, prefix:][batch.target >= 0])

    def alignment(self, video: Tensor, cells: Tensor) -> Tensor:
        """Pulls what a cell's token says towards the embeddings of the words for what the cell shows.

        LLaVA's first stage does the same with captions; here every cell has one.
        """
        embed = self.model.model.language_model.embed_tokens.weight
        classes = torch.cat([embed[self.words].sum(2), self.nothing], 1)  # [2 words+1 d]
        logits = _SHARPNESS * torch.einsum("nd,kwd->knw", video[:, :-1].flatten(0, 1).float(), classes)
        target = cells.flatten(1)
        nothing = classes.shape[1] - 1
        shown, bare = (target >= 0) & (target < nothing), target == nothing
        for row, word in enumerate(("colour", "shape")):
            right = (logits[row].argmax(-1) == target[row])[shown[row]].float().mean()
            self.log(f"cells/{word}", right, batch_size=1)
        # Few cells show anything: those that do weigh as much as those that do not.
        return cross_entropy(logits[shown], target[shown]) + cross_entropy(logits[bare], target[bare])

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # Late stages are long videos: what short ones could teach the tower, earlier stages have.
        self.model.model.vision_tower.requires_grad_(batch.frames.shape[1] < self.freeze_from)
        video = self.look(batch.frames)
        loss = _ALIGNMENT * self.alignment(video, batch.cells)
        self.log_dict({"alignment": loss / _ALIGNMENT, "frames": float(batch.frames.shape[1])})
        if batch.text.shape[1]:
            answers = cross_entropy(self.answer(batch, video).float(), batch.target[batch.target >= 0])
            self.log("answers", answers)
            loss = loss + answers
        return loss

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        """Share of the questions whose whole answer is right, per family and number of frames."""
        logits = self.answer(batch, self.look(batch.frames))
        asked = batch.target >= 0
        right = torch.ones_like(batch.target, dtype=torch.bool)
        right[asked] = logits.argmax(-1) == batch.target[asked]
        for number, family in enumerate(FAMILIES):
            rows, questions = (batch.family == number).nonzero(as_tuple=True)
            if len(rows):
                wrong = (batch.segment[rows] == questions[:, None]) & ~right[rows]
                score = (~wrong.any(1)).float().mean()
                name = f"{batch.frames.shape[1]:02d}/{family}"
                self.log(name, score, batch_size=len(rows), on_epoch=True, add_dataloader_idx=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        both = optimizer.build(self, self.pace.rate, self.pace.muon_rate)
        # A plain function: a callable object would be overwritten by the checkpoint's when a longer training resumes.
        schedule = torch.optim.lr_scheduler.LambdaLR(both, lambda step: self.pace(step))
        return {"optimizer": both, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}
