"""What a figure about a video is: which model looks at which sample, and what is drawn of it.

Light to import: the command line reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenprune import checkpoints
from tokenprune.errors import ConfigError
from tokenprune.loading.variant import Prompted
from tokenprune.options import (
    check_counts,
    check_fraction,
    check_sampling,
    check_short,
    from_mapping,
    key,
)

EMBEDDED = "embedded"  # options of a figure that count on the embedded models only
CONTENTS = ("black", "white", "noise")


@dataclass(frozen=True)
class FigureConfig(Prompted):
    """Everything a figure about a video can be told."""

    model: str = key("tiny", "tiny (embedded), a folder, or a hub id")
    assistant: str | None = key(
        None, "the guide: where attention is drawn, it is the one that is looked at"
    )
    video: str | None = key(None, "a video file to ask about, instead of a task's sample")
    question: str | None = key(None, "what to ask about the video")
    task: str = key("tinyvqa", "the task whose sample is drawn")
    category: str | None = key(None, "of the task: its first sample is drawn")
    sample: str | None = key(None, "the sample's id, or its number in the task")
    frames: int | None = key(None, "frames of the video; 32 of video=, else 16")
    sampling: str = key("index", "frames of a file by number (index) or by the clock (time)")
    short: str = key("once", "frames of a short file once, or repeated (repeat)")
    strategy: str = key("", "what is drawn, as in visionzip+dytok")
    against: str | None = key(None, "drawn above it; none is the full model")
    keep: float | None = key(None, "visual tokens left, mean over LLM layers", example="0.25")
    contents: list[str] = key(list, "videos without content in its place: black, white, noise")
    top: int = key(8, "frames with the most attention that are shown")
    max_new_tokens: int = key(48, "longest answer, in tokens")
    seed: int = key(0, "of the task's samples and of random draws")
    device: str = key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = key("auto", "auto, float32, bfloat16 or float16")
    options: dict[str, Any] = field(default_factory=dict)  # of strategies

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "frames", "top", "max_new_tokens")
        check_sampling(self.sampling)
        check_short(self.short)
        if self.keep is not None:
            check_fraction("keep", self.keep, "0.25")
        if self.question is not None and self.video is None:
            raise ConfigError("question= needs a video to ask about: add video=FILE")
        if self.video is not None and not self.question:
            raise ConfigError(
                f'video={self.video} needs a question about it: add question="What happens?"'
            )
        for name in self.contents:
            if name not in CONTENTS:
                raise ConfigError(f"contents={name} is unknown: write {', '.join(CONTENTS)}")


def configured(options: Mapping[str, Any], given: Mapping[str, Any]) -> FigureConfig:
    """A figure's own `options`, as its file has them, with what the user has `given` over them.

    Those under `embedded` count where the model is an embedded one: of six layers it cannot be
    asked for what one of 28 can. What is given as None is left out. Raises ConfigError.
    """
    mine = dict(options)
    small = mine.pop(EMBEDDED, None) or {}
    said = {name: value for name, value in given.items() if value is not None}
    if said.get("model", mine.get("model", "tiny")) in checkpoints.names():
        mine |= small
    if said.get("video") is not None:
        for name in ("category", "sample", "task"):
            mine.pop(name, None)
    return FigureConfig(**from_mapping(FigureConfig, {**mine, **said}, "the figure's options"))
