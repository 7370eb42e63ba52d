"""The training step: loss on every answer behind a video, and on what single tokens should know."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from experiments.tiny import optimizer
from experiments.tiny.attention import train_fast
from experiments.tiny.data import Batch
from experiments.tiny.heads import Heads
from experiments.tiny.labels import UNCLEAR
from experiments.tiny.model import Scale, build, normalise
from experiments.tiny.pace import Pace
from experiments.tiny.text import PROMPT_START
from tokenprune.tasks.questions import CATEGORIES, HARD, SHORT

_ALIGNMENT = 0.3  # weight of the alignment loss
_COURSE = 0.3  # weight of the course loss
_RATE, _MUON_RATE = 2e-3, 0.02


class Learner(lightning.LightningModule):
    """Stock model inside; everything that is only needed for training stays outside of it.

    The tower learns at `tower` of the others' rate, and at the full one in the first `opening`
    steps; at 0 it rests.
    """

    def __init__(
        self,
        tokens: PreTrainedTokenizerFast,
        scale: Scale,
        pace: Pace,
        *,
        tower: float,
        opening: int = 0,
    ) -> None:
        super().__init__()
        self.model = build(tokens, scale)
        train_fast(self.model)
        self.heads = Heads(tokens, scale.decoder[0])
        self.pace, self.tower, self.opening = pace, tower, opening
        self.model.model.vision_tower.requires_grad_(tower > 0)
        self.register_buffer(
            "start", torch.tensor(tokens(PROMPT_START)["input_ids"]), persistent=False
        )
        self.start: Tensor

    def see(self, frames: Tensor) -> Tensor:
        """What the tower makes of uint8 [b f h w 3]: float [b f patches d]."""
        tower = self.model.model.vision_tower
        seen = tower(normalise(frames).flatten(0, 1), output_hidden_states=True)
        return seen.hidden_states[-1].unflatten(0, frames.shape[:2])

    def look(self, frames: Tensor) -> Tensor:
        """Projected and pooled tokens, float [b f c d], of frames or of what the tower saw."""
        seen = self.see(frames) if frames.dtype == torch.uint8 else frames.float()
        inner = self.model.model
        tokens = inner.apply_pooling(inner.multi_modal_projector(seen.flatten(0, 1)))
        return cast(Tensor, tokens).unflatten(0, seen.shape[:2])

    def answer(self, batch: Batch, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the text's places, float [b t v], and visual tokens [b k d] halfway up."""
        decoder = self.model.model.language_model
        start = decoder.embed_tokens(self.start).expand(len(visual), -1, -1)
        newline = self.model.model.image_newline.expand(len(visual), 1, -1)
        text = decoder.embed_tokens(batch.text)
        sequence = torch.cat([start, visual.to(start.dtype), newline, text], 1)
        prefix = sequence.shape[1] - text.shape[1]
        states = decoder(
            inputs_embeds=sequence,
            attention_mask={"full_attention": batch.bias(prefix)},
            position_ids=batch.positions(prefix),
            use_cache=False,
            output_hidden_states=True,
        )
        middle = states.hidden_states[(len(decoder.layers) + 1) // 2]
        logits = self.model.lm_head(states.last_hidden_state[:, prefix:])
        return logits, middle[:, len(self.start) : prefix - 1]

    def training_step(self, batch: Batch, index: int) -> Tensor:
        video = self.look(batch.frames)
        words = self.model.model.language_model.embed_tokens.weight
        aligned = self.heads.alignment(video, batch.labels.cells.long(), words)
        loss = _ALIGNMENT * self._note("alignment", aligned)
        if batch.text.shape[1]:
            logits, halfway = self.answer(batch, _those(video.flatten(1, 2), batch.kept))
            answers = _missed(logits, batch)
            self.log("answers", answers)
            loss = loss + answers
            if batch.length > 1:
                loss = loss + _COURSE * self._course(batch, halfway, words)
        self.log("frames", float(batch.length))
        return loss

    def _course(self, batch: Batch, halfway: Tensor, words: Tensor) -> Tensor:
        course = batch.labels.course.long().flatten(2)
        chosen = batch.kept.unsqueeze(1).expand(-1, course.shape[1], -1)
        drift = _those(batch.labels.drift.flatten(1, 2), batch.kept)
        whole = batch.kept.shape[1] == course.shape[2]
        told = self.heads.course(halfway, course.gather(2, chosen), drift, words, clock=whole)
        return self._note("course", told)

    def _note(self, name: str, told: dict[str, Tensor]) -> Tensor:
        """Logs what heads have told; their loss."""
        loss = told.pop("loss")
        self.log_dict({name: loss, **told}, batch_size=1)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Share of the questions whose whole answer is right, per category and number of frames."""
        logits, _ = self.answer(batch, _those(self.look(batch.frames).flatten(1, 2), batch.kept))
        wrong = (logits.argmax(-1) != batch.target) & (batch.target >= 0)
        for number, name in enumerate(CATEGORIES):
            rows, questions = (batch.family == number).nonzero(as_tuple=True)
            if len(rows):
                missed = (batch.segment[rows] == questions[:, None]) & wrong[rows]
                score = (~missed.any(1)).float().mean()
                self.log(f"{batch.length:02d}/{name}", score, batch_size=len(rows), on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        scores = {
            name[3:]: float(score)
            for name, score in self.trainer.callback_metrics.items()
            if name[:2].isdigit()
        }
        for title, group in (("short", SHORT), ("hard", HARD)):
            known = [scores[name] for name in group if name in scores]
            self.print(f"step {self.global_step}: {title} {sum(known) / max(1, len(known)):.3f}")
        self.print(" ".join(f"{name} {score:.2f}" for name, score in scores.items()))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        both = optimizer.build(self, _RATE, _MUON_RATE)
        factors = [partial(self._factor, bool(group["tower"])) for group in both.param_groups]
        # Plain functions: a callable object would be overwritten by the checkpoint's when a longer
        # training resumes.
        schedule = torch.optim.lr_scheduler.LambdaLR(both, cast(Any, factors))
        return {
            "optimizer": both,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1},
        }

    def _factor(self, tower: bool, step: int) -> float:
        """Of a group's rate at a step."""
        own = self.tower if tower and step >= self.opening else 1.0
        return own * self.pace(step)


def _those(tokens: Tensor, kept: Tensor) -> Tensor:
    """The visual tokens [b n d] that stay: [b k d]."""
    if kept.shape[1] == tokens.shape[1]:
        return tokens
    return tokens.gather(1, kept.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _missed(logits: Tensor, batch: Batch) -> Tensor:
    """Mean loss of the answers' tokens, by their weight."""
    missed = cross_entropy(
        logits.float().flatten(0, 1),
        batch.target.flatten(),
        reduction="none",
        ignore_index=UNCLEAR,
    )
    weight = batch.weight.flatten()
    return (missed * weight).sum() / weight.sum()
