"""What a bench is: words like `strategy=dycoke,fastv frames=32`, against one dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.loading.variant import Variant
from tokenprune.options import (
    check_fraction,
    check_once,
    check_owners,
    key,
    keys_of,
    options_of,
    read_options,
)

SHAPE = "shape:"  # before the name of an architecture that is built with random weights
TOWER, RANDOM = "tower", "random"  # where visual features come from
DYNAMIC, STATIC = "dynamic", "static"  # caches of generate


@dataclass(frozen=True)
class BenchConfig(Variant):
    """Everything `tokenprune bench` can be told, and the schema of it."""

    strategy: list[str] = key(list, "methods to measure, as in dycoke,fastv,dytok+visionzip")
    keep: float | None = key(
        None, "visual tokens left by each, mean over LLM layers; their own options by default"
    )
    model: str = key(
        "tiny", "tiny, a folder, a hub id, or shape:NAME: that architecture with random weights"
    )
    assistant: str | None = key(
        None, "a smaller model of the same family that weighs frames for dytok"
    )
    vision: str = key(
        TOWER, "tower, or random: features are made up, so that the LLM is measured alone"
    )
    video: str | None = key(None, "a video file to decode; one is made up by default")
    frames: int = key(32, "frames per video, spread evenly")
    batch: int = key(1, "prompts in one forward pass, all about the same video")
    text: int = key(40, "text tokens of a prompt, a few of them before the video")
    ragged: int = key(
        0,
        "text tokens that the shortest prompt of a batch has less: the others are padded in "
        "between",
    )
    new_tokens: int = key(100, "tokens to generate, at least 2; no end of sequence stops them")
    cache: str = key(
        DYNAMIC,
        "dynamic, or static, whose decoding step transformers compiles as a whole on a GPU",
    )
    repeats: int = key(5, "measured turns")
    warmup: int = key(1, "turns before, which are not counted")
    seed: int = key(0, "of random weights, features, words and draws")
    device: str = key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = key(
        "auto", "auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the model's"
    )
    plugin: list[str] = key(
        list, "a Python file of yours that defines strategies; may be repeated", repeated=True
    )
    out: str = key(
        "", "folder for bench.json and bench.png, which must not hold anything yet; needed"
    )
    options: dict[str, Any] = field(default_factory=dict)  # of strategies, as {"dycoke.merge": 0.5}

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"frames": 1, "batch": 1, "text": 2, "new_tokens": 2, "repeats": 1, "warmup": 1}
        for name, low in least.items():
            if (value := getattr(self, name)) < low:
                raise ConfigError(f"{name}={value} is too few: write at least {low}")
        if self.ragged and not 0 < self.ragged <= self.text - 2:
            raise ConfigError(
                f"ragged={self.ragged} of text={self.text} tokens: write 1 to {self.text - 2}, or "
                "a longer text"
            )
        if self.ragged and self.batch == 1:
            raise ConfigError(
                f"ragged={self.ragged} needs several prompts: write batch=4, or leave it out"
            )
        if not self.strategy:
            raise ConfigError(
                "nothing to measure: write strategy=NAME,NAME, as in strategy=dycoke,fastv"
            )
        check_once("strategy", self.strategy)
        if self.keep is not None:
            check_fraction("keep", self.keep, "0.25")
        if not self.out:
            raise ConfigError("nowhere to write to: add out=DIR, as in out=runs/bench")
        if self.vision not in (TOWER, RANDOM):
            raise ConfigError(f"vision={self.vision} is unknown: write {TOWER} or {RANDOM}")
        if self.cache not in (DYNAMIC, STATIC):
            raise ConfigError(f"cache={self.cache} is unknown: write {DYNAMIC} or {STATIC}")
        if self.vision == RANDOM and self.video is not None:
            raise ConfigError(
                f"video= is not looked at with vision={RANDOM}: leave one of them out"
            )
        if self.vision == RANDOM and self.assistant is not None:
            raise ConfigError(
                f"an assistant sees the video for itself: leave assistant= or vision={RANDOM} out"
            )

    def of(self, spec: str) -> dict[str, Any]:
        """The options that belong to the strategies of `spec`."""
        return options_of(spec, self.options)


KEYS = tuple(keys_of(BenchConfig))


def parse_bench(words: Sequence[str]) -> BenchConfig:
    """The bench that `KEY=VALUE` words describe; keys with a dot are options of strategies.

    Raises ConfigError.
    """
    config = read_options(BenchConfig, words, section="bench")
    check_owners(config.options, config.strategy)
    return config
