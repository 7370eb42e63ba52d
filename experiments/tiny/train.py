"""Trains the embedded model, on a GPU if there is one, else on the CPU.

    python -m experiments.tiny.train out=DIR --minutes 45 --parent FOLDER --tower 0
    python -m experiments.tiny.train out=DIR --smoke    # under a minute: does it run?

A second call resumes. Writes `last.ckpt`, `logs/version_N/metrics.csv` (N counts the resumptions),
the model folder `model/` (averaged weights, as `from_pretrained` takes it) and `heads.safetensors`,
what only a further training needs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger

from experiments.tiny.grow import inherit
from experiments.tiny.learner import Learner
from experiments.tiny.lessons import Lessons
from experiments.tiny.model import SCALES, save
from experiments.tiny.pace import Pace
from experiments.tiny.recipe import Recipe
from experiments.tiny.text import tokenizer
from tokenprune.evaluation.manners import quiet

SHARES = "8:0.12,16:0.6,32:0.18,64:0.1"
_OPENING = 2000  # steps of single frames for a model without a parent
_STEPS = 4000


def shares(text: str) -> dict[int, float]:
    """`8:0.2,16:0.8`: a fifth of the steps show 8 frames, the others 16."""
    pairs = (part.split(":") for part in text.split(","))
    return {int(frames): float(share) for frames, share in pairs}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Any = parser.add_argument
    add("out", help="out=DIR: where checkpoints, logs and the model go")
    add("--scale", choices=sorted(SCALES), default="tiny", help="default: tiny")
    add("--parent", type=Path, help="a model folder to start from; a smaller one grows")
    add("--eyes", type=Path, help="a model folder whose tower has the size, if the parent's hasn't")
    add("--heads", type=Path, help="heads.safetensors of the parent's training")
    add("--smoke", action="store_true", help="a few tiny steps")
    add("--steps", type=int, help=f"default: {_STEPS}")
    add("--minutes", type=float, help="instead of steps: the rates follow the clock")
    add("--tower", type=float, default=0.3, help="its factor on the rates; 0: it rests")
    add("--bank", type=int, default=4096, help="videos of 16 frames that a resting tower sees")
    add("--opening", type=int, help=f"steps of single frames; default: {_OPENING}, 0 if parented")
    add("--shares", type=shares, default=SHARES, help=f"of the steps by frames; default {SHARES}")
    add("--videos", type=int, default=12, help="of 16 frames in a step")
    add("--questions", type=int, default=24, help="about each video")
    add("--drop", type=float, default=0.6, help="share of the steps in which tokens are missing")
    add("--peak", type=float, default=0.5, help="factor on the rates")
    add("--warmup", type=int, default=100, help="steps")
    add("--average", type=float, default=0.995, help="decay of the averaged weights")
    add("--every", type=int, default=100, help="steps from validation to validation")
    add("--checks", type=int, default=8, help="batches of 12 videos in a validation")
    add("--workers", type=int, help="processes that render; default: all cores but one")
    add("--seed", type=int, default=0)
    return parser


def smoke(options: argparse.Namespace) -> None:
    """Everything once, and small."""
    options.steps, options.every, options.shares = 4, 2, {8: 0.5, 16: 0.5}
    options.videos, options.questions, options.warmup, options.bank = 2, 4, 1, 16
    options.checks, options.opening = 1, 0 if options.parent else 4


def run(out: Path, options: argparse.Namespace) -> None:
    """Trains or resumes a training in `out`."""
    lightning.seed_everything(options.seed)
    usual = 0 if options.parent else _OPENING
    opening = usual if options.opening is None else options.opening
    recipe = Recipe(
        shares=options.shares,
        videos=options.videos,
        questions=options.questions,
        drop=options.drop,
        opening=opening,
        seed=options.seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    told = dataclasses.asdict(recipe) | {"tower": options.tower, "peak": options.peak}
    (out / "recipe.json").write_text(json.dumps(told, indent=2) + "\n")
    steps = -1 if options.minutes else opening + (options.steps or _STEPS)
    timer = Timer(timedelta(minutes=options.minutes) if options.minutes else None)
    seconds = 60 * (options.minutes or 0)

    def progress(step: int) -> float:
        return timer.time_elapsed() / seconds if seconds else step / steps

    pace = Pace(progress, options.peak, options.warmup)
    tokens = tokenizer()
    learner = Learner(tokens, SCALES[options.scale], pace, tower=options.tower, opening=opening)
    if options.parent:
        inherit(learner.model, tokens, options.parent, eyes=options.eyes)
    if options.heads:
        learner.heads.restore(options.heads)
    bank = 0 if options.tower else options.bank
    lessons = Lessons(recipe, bank, options.checks, options.workers)
    trainer = _trainer(out, steps, timer, options)
    last = out / "last.ckpt"
    with quiet():
        trainer.fit(learner, lessons, ckpt_path=last if last.exists() else None, weights_only=False)
    learner.heads.store(out / "heads.safetensors")
    save(learner.model, tokens, out / "model")


def _trainer(out: Path, steps: int, timer: Timer, options: argparse.Namespace) -> lightning.Trainer:
    callbacks: list[Callback] = [
        timer,
        EMAWeightAveraging(decay=options.average, use_buffers=False),
        ModelCheckpoint(
            out, filename="last", every_n_train_steps=options.every, enable_version_counter=False
        ),
        TQDMProgressBar(refresh_rate=1 if os.isatty(2) else options.every),
    ]
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        # products in float32 are twice as fast as in bfloat16 on a CPU without AMX
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        max_steps=steps,
        max_epochs=-1,
        gradient_clip_val=1.0,
        default_root_dir=out,
        logger=CSVLogger(out, name="logs"),
        callbacks=callbacks,
        log_every_n_steps=1 if options.smoke else 20,
        val_check_interval=options.every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    for folder in filter(None, (options.parent, options.eyes)):
        if not (folder / "config.json").exists():
            parser.error(f"{folder} holds no model: name a folder with config.json and weights")
    if options.heads and not options.heads.exists():
        parser.error(f"there is no file {options.heads}: name a training's heads.safetensors")
    if options.smoke:
        smoke(options)
    if options.tower == 0 and not options.parent:
        parser.error("a tower that never learnt cannot rest: name a --parent")
    torch.set_float32_matmul_precision("high")
    torch.set_flush_denormal(True)  # attention's smallest weights: a third of a step on a CPU
    run(Path(options.out.removeprefix("out=")), options)


if __name__ == "__main__":
    main()
