"""The training step: loss on every answer behind a video, and on what single tokens should know.

*Alignment*: a projected token names colour, shape and smallness of what its cell shows, and its row
and column. *Course*: halfway up the decoder a token names its frame, the way its object has moved
and how far, and whether it has changed.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import cast

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, rms_norm
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPooling

from experiments.tiny import optimizer
from experiments.tiny.attention import train_fast
from experiments.tiny.data import Batch, Load
from experiments.tiny.model import Scale, build, normalise
from experiments.tiny.text import PROMPT_START, ids
from tokenprune.tasks.questions import CATEGORIES
from tokenprune.tasks.scenes import COLOURS, DIRECTIONS, SHAPES

# of the alignment's logits: keeps projected tokens about as long as word embeddings
_SHARPNESS = 3.0
_ALIGNMENT = 0.5  # weight of the alignment loss
_COURSE = 0.4  # weight of the course loss
_DRIFT = 2.0  # weight of the drift within it
_GRID = 6  # cells of a row or column
_LONGEST = 32  # frames


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum."""

    load: Load
    steps: int
    rate: float = 1.0  # factor on the learning rates

    @classmethod
    def parse(cls, text: str) -> Stage:
        """`8x12x16:500@0.5`: 500 steps, 12 videos of 8 frames, 16 questions each, half the rate."""
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

    def __init__(
        self, tokens: PreTrainedTokenizerFast, scale: Scale, pace: Pace, freeze_from: int
    ) -> None:
        super().__init__()
        width = scale.decoder[0]
        self.model = build(tokens, scale)
        train_fast(self.model)
        # "no colour", "no shape", "not small"
        self.nothing = nn.Parameter(torch.randn(3, width) * width**-0.5)
        self.place = nn.Linear(width, 2 * _GRID)
        self.clock, self.turned, self.drift = (nn.Linear(width, n) for n in (_LONGEST, 2, 2))
        self.pace, self.freeze_from = pace, freeze_from
        self.register_buffer(
            "start", torch.tensor(tokens(PROMPT_START)["input_ids"]), persistent=False
        )
        for name, words in (
            ("colours", COLOURS),
            ("shapes", SHAPES),
            ("sizes", ("small",)),
            ("ways", DIRECTIONS),
        ):
            # int64 [words 2]
            forms = torch.tensor([ids(tokens, word, f"Ġ{word}") for word in words])
            self.register_buffer(name, forms, persistent=False)
        self.start: Tensor
        self.colours: Tensor
        self.shapes: Tensor
        self.sizes: Tensor
        self.ways: Tensor

    def look(self, frames: Tensor) -> Tensor:
        """Projected and pooled tokens: float [b f c d]. What comes from a bank is that already."""
        if frames.dtype != torch.uint8:
            return frames.float()
        seen = self.model.model.get_video_features(normalise(frames))
        # the newline is last
        tokens = cast(Tensor, cast(BaseModelOutputWithPooling, seen).pooler_output)[:, :-1]
        return tokens.unflatten(1, (frames.shape[1], -1))

    def answer(self, batch: Batch, video: Tensor) -> tuple[Tensor, Tensor]:
        """Logits where a target is asked, and video tokens halfway up the decoder.

        Float [n v], row by row, and [b f*c d].
        """
        decoder = self.model.model.language_model
        start = decoder.embed_tokens(self.start).expand(len(video), -1, -1)
        newline = self.model.model.image_newline.expand(len(video), 1, -1)
        sequence = torch.cat(
            [start, video.flatten(1, 2).to(start.dtype), newline, decoder.embed_tokens(batch.text)],
            1,
        )
        prefix = sequence.shape[1] - batch.text.shape[1]
        states = decoder(
            inputs_embeds=sequence,
            attention_mask=batch.mask(prefix),
            position_ids=batch.positions(prefix),
            use_cache=False,
            output_hidden_states=True,
        )
        logits = self.model.lm_head(states.last_hidden_state[:, prefix:][batch.target >= 0])
        return logits, states.hidden_states[(len(decoder.layers) + 1) // 2][
            :, len(self.start) : prefix - 1
        ]

    def words(self, forms: Tensor) -> Tensor:
        """Embeddings of words, with and without a blank before them, summed: float [words d]."""
        return self.model.model.language_model.embed_tokens.weight[forms].sum(1)

    def alignment(self, video: Tensor, cells: Tensor) -> Tensor:
        """Pulls what a cell's token says towards the embeddings of the words for what it shows.

        LLaVA's first stage does the same with captions; here every cell has one.
        """
        tokens = video.flatten(0, 2).float()
        place = self.place(tokens).unflatten(-1, (2, _GRID)).float()
        cell = torch.arange(_GRID**2).repeat(len(tokens) // _GRID**2)
        loss = cross_entropy(place[:, 0], cell // _GRID) + cross_entropy(place[:, 1], cell % _GRID)
        for number, name in enumerate(("colours", "shapes", "sizes")):
            classes = torch.cat([self.words(getattr(self, name)), self.nothing[number, None]])
            logits, target = _SHARPNESS * tokens @ classes.T, cells[number].flatten()
            loss = loss + self._balanced(
                logits.float(), target, target == len(classes) - 1, f"cells/{name}"
            )
        return loss

    def course(self, halfway: Tensor, course: Tensor, drift: Tensor) -> Tensor:
        """What tokens that show an object should have found out about it from the frames so far."""
        way, clock, turned = course.flatten(1)
        tokens = rms_norm(halfway.float(), halfway.shape[-1:]).flatten(0, 1)
        moving, clear = way >= 0, clock >= 0
        frame, come = self.clock(tokens[clear]).float(), drift.flatten(0, -2)[clear]
        missed = mse_loss(self.drift(tokens[clear]).float(), come)
        total = cross_entropy(frame, clock[clear]) + _DRIFT * missed
        self.log("cells/frame", (frame.argmax(-1) == clock[clear]).float().mean(), batch_size=1)
        self.log("cells/drift", 1 - missed.detach() / come.square().mean(), batch_size=1)
        if moving.any():
            logits = (tokens[moving] @ self.words(self.ways).T).float()
            self.log("cells/ways", (logits.argmax(-1) == way[moving]).float().mean(), batch_size=1)
            total = total + cross_entropy(logits, way[moving])
        return total + self._balanced(
            self.turned(tokens).float(), turned, turned == 0, "cells/turned"
        )

    def _balanced(self, logits: Tensor, target: Tensor, usual: Tensor, name: str) -> Tensor:
        """Cross entropy in which the few cells that show something weigh as much as the others.

        The many others are the `usual` ones.
        """
        special = (target >= 0) & ~usual
        parts = [
            cross_entropy(logits[rows], target[rows]) for rows in (special, usual) if rows.any()
        ]
        if special.any():
            right = (logits[special].argmax(-1) == target[special]).float().mean()
            self.log(name, right, batch_size=1)
        return torch.stack(parts).sum()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # Late stages are long videos: what short ones could teach the tower, earlier stages have.
        for part in (self.model.model.vision_tower, self.model.model.multi_modal_projector):
            part.requires_grad_(batch.frames.shape[1] < self.freeze_from)
        video = self.look(batch.frames)
        aligned = self.alignment(video, batch.cells)
        loss = _ALIGNMENT * aligned
        self.log_dict({"alignment": aligned, "frames": float(batch.frames.shape[1])})
        if batch.text.shape[1]:
            logits, halfway = self.answer(batch, video)
            asked = batch.target >= 0
            missed = cross_entropy(logits.float(), batch.target[asked], reduction="none")
            weight = batch.weight[asked]
            answers = (missed * weight).sum() / weight.sum()
            self.log("answers", answers)
            loss = loss + answers
            if batch.frames.shape[1] > 1:
                loss = loss + _COURSE * self.course(halfway, batch.course, batch.drift)
        return loss

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        """Share of the questions whose whole answer is right, per family and number of frames."""
        logits, _ = self.answer(batch, self.look(batch.frames))
        asked = batch.target >= 0
        right = torch.ones_like(batch.target, dtype=torch.bool)
        right[asked] = logits.argmax(-1) == batch.target[asked]
        for number, family in enumerate(CATEGORIES):
            rows, questions = (batch.family == number).nonzero(as_tuple=True)
            if len(rows):
                wrong = (batch.segment[rows] == questions[:, None]) & ~right[rows]
                score = (~wrong.any(1)).float().mean()
                name = f"{batch.frames.shape[1]:02d}/{family}"
                self.log(name, score, batch_size=len(rows), on_epoch=True, add_dataloader_idx=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        both = optimizer.build(self, self.pace.rate, self.pace.muon_rate)
        # A plain function: a callable object would be overwritten by the checkpoint's when a longer
        # training resumes.
        schedule = torch.optim.lr_scheduler.LambdaLR(both, lambda step: self.pace(step))
        return {
            "optimizer": both,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1},
        }
