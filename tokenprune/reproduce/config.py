"""What `tokenprune reproduce` can be told, against one dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import Size, check_counts, key, read_options

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ReproduceConfig:
    """Everything that the command can be told, and the schema of its words."""

    what: list[str] = field(default_factory=list)  # words without a key: PAPER, PAPER/TABLE or all
    plan: bool = key(False, "true: what is missing and what it costs; loads nothing")
    check: bool = key(
        False, "true: status 1 if a figure without a run is wrong, or a claim has flipped"
    )
    analogue: bool = key(False, "true: run the table's grid on the embedded models")
    rows: list[str] = key(list, "only these rows, by method or name: rows=Full,DyCoke")
    columns: list[str] = key(list, "only these columns, by name")
    model: dict[str, Any] = key(dict, "weights of a table's model: model.7B=FOLDER or a hub id")
    limit: int | None = key(None, "at most this many samples a task: such a cell is `partial`")
    batch_size: Size = key(
        1, "samples per forward pass; auto: as many as fit into memory", example="8, or auto"
    )
    seed: int = key(0, "of random draws, of guesses and of resampling")
    device: str = key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str | None = key(None, "float32, bfloat16 or float16; the protocol's by default")
    judge: str | None = key(
        None, "the model that judges answers, paid for by you: judge=gpt-4o-mini"
    )
    download: bool = key(False, "true: fetch weights and documents that are not here")
    noise: list[str] = key(
        list, "two precisions, as in float32,bfloat16: measure how many scores differ between them"
    )
    video: str | None = key(None, "of a figure: a video of yours; else an embedded sample")
    question: str | None = key(None, "of a figure: what is asked about it")
    assistant: str | None = key(None, "of a figure: the model that guides; a folder or a hub id")
    frames: int | None = key(None, "of a figure: frames of the video")
    out: str = key("runs/papers", "folder for finished jobs and for the pages")
    commit: bool = key(
        False, "true: write what was found into <table>.ours.json, beside the table's file"
    )

    def __post_init__(self) -> None:
        check_counts(self, "limit", "batch_size", "frames")
        if self.noise and len(self.noise) != 2:
            raise ConfigError("noise= compares two precisions: write noise=float32,bfloat16")
        for name, value in [("dtype", self.dtype), *(("noise", one) for one in self.noise)]:
            if value is not None and value not in PRECISIONS:
                raise ConfigError(f"{name}={value} is unknown: write {' or '.join(PRECISIONS)}")
        if (self.video is None) != (self.question is None):
            raise ConfigError("video= and question= go together: write both, or neither")


def parse(words: Sequence[str]) -> ReproduceConfig:
    """Raises ConfigError."""
    return read_options(ReproduceConfig, words, bare="what")
