"""One video file and one question about it: the task of `video=` and `question=`."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from tokenprune.loading.video import read_clip
from tokenprune.tasks.base import Label, Sample, Task


class Clip(Task):
    """One sample whose answer is not known: its score is nan."""

    name = "video"

    def __init__(
        self, path: str, question: str, frames: int, sampling: str = "index", short: str = "once"
    ) -> None:
        clip = read_clip(path, frames, sampling, short)
        self._sample = Sample(
            Path(path).name,
            question,
            "",
            self.name,
            clip.frames,
            times=clip.times,
            duration=clip.duration,
        )

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return self._sample

    def label(self, index: int) -> Label:
        return Label(self._sample.id, self.name, self._sample.question, "")

    def fingerprint(self) -> dict[str, Any]:
        frames = self._sample.frames
        digest = hashlib.sha256(frames.numpy().tobytes()).hexdigest()[:16]
        shape = "x".join(map(str, frames.shape))
        return {"task": self.name, "frames": f"{shape} {digest}", "question": self._sample.question}

    def score(self, prediction: str, sample: Sample) -> float:
        return math.nan
