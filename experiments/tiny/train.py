"""Trains the embedded model from scratch on two CPU cores.

    python -m experiments.tiny.train out=DIR            # a few hours at most; a second call resumes
    python -m experiments.tiny.train out=DIR --smoke    # under a minute: does it run?

Writes `last.ckpt`, `logs/version_N/metrics.csv` (N counts the resumptions) and the model folder
`model/` (averaged weights, as `from_pretrained` takes it).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from experiments.tiny.bank import Replay
from experiments.tiny.data import Load, Steps
from experiments.tiny.learner import Learner, Pace, Stage
from experiments.tiny.model import SCALES, inherit, save
from experiments.tiny.text import tokenizer

# frames x videos x questions : steps @ rate. The shipped models were not made by one run of these:
# their training went piece by piece, from the weights of earlier ones, and their cards say what was
# run.
CURRICULA = {
    "tiny": "1x64x0:600 1x40x12:400@0.5 8x16x24:600@0.5 16x12x24:2000@0.25",
    "nano": "1x64x0:1400 1x40x12:500 8x16x24:1000@0.5 16x12x24:2000@0.3",
}
SMOKE = "1x8x0:4 1x8x4:4 16x2x4:4"
FREEZE_FROM = 2  # the tower learns from videos shorter than this
VALIDATION_SEED = 1 << 20  # of the training split: the test split is for the final numbers only


class Onwards(Sampler[int]):
    """Counts steps from where the training stands."""

    def __init__(self, learner: Learner, total: int) -> None:
        self.learner, self.total = learner, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.learner.global_step, self.total))

    def __len__(self) -> int:
        return self.total


def loaders(
    stages: list[Stage], learner: Learner, seed: int, smoke: bool, bank: int
) -> tuple[DataLoader, DataLoader]:
    """Training and validation batches, made here, as the bank's tokens are the learner's."""
    tokens = tokenizer()
    loads = [stage.load for stage in stages for _ in range(stage.steps)]

    @torch.no_grad()
    def look(frames: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return learner.look(frames)

    steps = Replay(loads, tokens, seed, look=look, freeze_from=learner.freeze_from, videos=bank)
    probe = [Load(4, 24, 14), *[Load(16, 24, 14)] * 4][: 1 if smoke else None]
    return (
        DataLoader(steps, batch_size=None, sampler=Onwards(learner, len(loads))),
        DataLoader(Steps(probe, tokens, VALIDATION_SEED), batch_size=None),
    )


def train(
    out: Path,
    stages: list[Stage],
    *,
    rate: float,
    muon_rate: float,
    seed: int,
    every: int,
    smoke: bool,
    freeze_from: int,
    scale: str,
    parent: Path | None,
    bank: int,
) -> None:
    """Runs or resumes a training in `out`: of size `scale`, from scratch or from `parent`."""
    lightning.seed_everything(seed)
    total = sum(stage.steps for stage in stages)
    pace = Pace(rate, muon_rate, tuple(stages), warmup=min(100, total), decay=max(1, total // 5))
    learner = Learner(tokenizer(), SCALES[scale], pace, freeze_from)
    if parent is not None:
        inherit(learner.model, tokenizer(), parent)
    training, validation = loaders(stages, learner, seed, smoke, bank)
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision="bf16-mixed",
        max_steps=total,
        max_epochs=-1,
        gradient_clip_val=1.0,
        default_root_dir=out,
        logger=CSVLogger(out, name="logs"),
        callbacks=[
            EMAWeightAveraging(decay=0.995, use_buffers=False),
            ModelCheckpoint(
                out, filename="last", every_n_train_steps=every, enable_version_counter=False
            ),
            TQDMProgressBar(refresh_rate=every if not os.isatty(2) else 1),
        ],
        log_every_n_steps=1 if smoke else 20,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    last = out / "last.ckpt"
    trainer.fit(
        learner, training, validation, ckpt_path=last if last.exists() else None, weights_only=False
    )
    save(learner.model, tokenizer(), out / "model")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", help="out=DIR: where checkpoints, logs and the model go")
    parser.add_argument("--scale", choices=sorted(SCALES), default="tiny", help="default: tiny")
    parser.add_argument(
        "--parent", type=Path, help="a model folder whose weights the training starts from"
    )
    parser.add_argument("--smoke", action="store_true", help="a dozen tiny steps")
    parser.add_argument("--curriculum", help=f"default: {CURRICULA}")
    parser.add_argument(
        "--freeze-from", type=int, default=FREEZE_FROM, help="frames from which the tower rests"
    )
    parser.add_argument(
        "--bank", type=int, default=4096, help="videos of each longer length; see bank.py"
    )
    parser.add_argument("--rate", type=float, default=2e-3, help="AdamW's learning rate")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    train(
        Path(options.out.removeprefix("out=")),
        [
            Stage.parse(text)
            for text in (
                SMOKE if options.smoke else options.curriculum or CURRICULA[options.scale]
            ).split()
        ],
        rate=options.rate,
        muon_rate=options.muon_rate,
        seed=options.seed,
        every=4 if options.smoke else 100,
        smoke=options.smoke,
        freeze_from=options.freeze_from,
        scale=options.scale,
        parent=options.parent,
        bank=16 if options.smoke else options.bank,
    )


if __name__ == "__main__":
    main()
