"""What a bench is: words like `strategy=dycoke,fastv model=shape:llava-onevision-7b frames=32`, against one dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenprune.config import ConfigError, parse

SHAPE = "shape:"  # before the name of an architecture that is built with random weights
TOWER, RANDOM = "tower", "random"  # where visual features come from


def _key(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class BenchConfig:
    """Everything `tokenprune bench` can be told, and the schema of it."""

    strategy: list[str] = field(
        default_factory=list, metadata={"help": "methods to measure, as in dycoke,fastv,dytok+visionzip"}
    )
    keep: float | None = _key(None, "visual tokens left by each, mean over LLM layers; their own options by default")
    model: str = _key("tiny", "tiny, a folder, a hub id, or shape:NAME: that architecture with random weights")
    assistant: str | None = _key(None, "a smaller model of the same family that weighs frames for dytok")
    vision: str = _key(TOWER, "tower, or random: features are made up, so that the LLM is measured alone")
    video: str | None = _key(None, "a video file to decode; one is made up by default")
    frames: int = _key(32, "frames per video, spread evenly")
    batch: int = _key(1, "prompts in one forward pass, all about the same video")
    text: int = _key(40, "text tokens of a prompt, a few of them before the video")
    ragged: int = _key(0, "text tokens that the shortest prompt of a batch has less: the others are padded in between")
    new_tokens: int = _key(100, "tokens to generate, at least 2; no end of sequence stops them")
    repeats: int = _key(5, "measured turns")
    warmup: int = _key(1, "turns before, which are not counted")
    seed: int = _key(0, "of random weights, features, words and draws")
    device: str = _key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = _key("auto", "auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the model's")
    out: str = _key("", "folder for bench.json and bench.png, which must not hold anything yet; needed")
    options: dict[str, Any] = field(default_factory=dict)  # of strategies, as {"dycoke.merge": 0.5}

    def __post_init__(self) -> None:
        least = {"frames": 1, "batch": 1, "text": 2, "new_tokens": 2, "repeats": 1, "warmup": 1}
        for key, low in least.items():
            if (value := getattr(self, key)) < low:
                raise ConfigError(f"{key}={value} is too few: write at least {low}")
        if self.ragged and not 0 < self.ragged <= self.text - 2:
            raise ConfigError(
                f"ragged={self.ragged} of text={self.text} tokens: write 1 to {self.text - 2}, or a longer text"
            )
        if self.ragged and self.batch == 1:
            raise ConfigError(f"ragged={self.ragged} needs several prompts: write batch=4, or leave it out")
        if not self.strategy:
            raise ConfigError("nothing to measure: write strategy=NAME,NAME, as in strategy=dycoke,fastv")
        for place, spec in enumerate(self.strategy):
            if spec in self.strategy[:place]:
                raise ConfigError(f"strategy= names {spec} twice: leave one of them out")
        if self.keep is not None and not 0.0 < self.keep <= 1.0:
            meant = f"{self.keep / 100:g}" if 1.0 < self.keep <= 100.0 else "0.25"
            raise ConfigError(f"keep={self.keep:g} is no fraction above 0 and up to 1: write keep={meant}")
        if not self.out:
            raise ConfigError("nowhere to write to: add out=DIR, as in out=runs/bench")
        if self.vision not in (TOWER, RANDOM):
            raise ConfigError(f"vision={self.vision} is unknown: write {TOWER} or {RANDOM}")
        if self.vision == RANDOM and self.video is not None:
            raise ConfigError(f"video= is not looked at with vision={RANDOM}: leave one of them out")
        if self.vision == RANDOM and self.assistant is not None:
            raise ConfigError(f"an assistant sees the video for itself: leave assistant= or vision={RANDOM} out")

    def of(self, spec: str) -> dict[str, Any]:
        """The options that belong to the strategies of `spec`."""
        names = words(spec)
        return {key: value for key, value in self.options.items() if key.partition(".")[0] in names}


_SCHEMA = {key.name: str(key.type) for key in dataclasses.fields(BenchConfig) if key.name != "options"}
KEYS = tuple(_SCHEMA)


def words(spec: str) -> list[str]:
    """`a+b` as `[a, b]`."""
    return [name.strip() for name in spec.split("+")]


def parse_bench(given: Sequence[str]) -> BenchConfig:
    """The bench that `KEY=VALUE` words describe; keys with a dot are options of strategies. Raises ConfigError."""
    plain: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"{word!r} is no KEY=VALUE: write {_instead_of(word)}")
        if name in plain or name in options:
            raise ConfigError(f"{name}= is given twice: leave one of them out")
        if not text.strip():
            raise ConfigError(f"{name}= is empty: write {name}=VALUE, or leave it out")
        if "." in name:
            options.update(parse([word]).options)
        elif name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.5)
            hint = f": did you mean {near[0]}=?" if near else "."
            raise ConfigError(f"unknown key {name!r}{hint} Keys: {', '.join(KEYS)}, and STRATEGY.FIELD")
        else:
            plain[name] = _read(name, text)
    return _checked(BenchConfig(**plain, options=options))


def _checked(config: BenchConfig) -> BenchConfig:
    named = {name for spec in config.strategy for name in words(spec)}
    for key in config.options:
        owner, _, option = key.partition(".")
        if owner not in named:
            near = difflib.get_close_matches(owner, sorted(named), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}.{option}=?" if near else f"add {owner} to it, or leave it out"
            raise ConfigError(f"{key}= is an option of no strategy in strategy={','.join(config.strategy)}: {hint}")
    return config


def _read(name: str, text: str) -> Any:
    if name == "strategy":
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise ConfigError(f"strategy={text} has nothing between two commas: write strategy=NAME,NAME")
        return parts
    kind = float if _SCHEMA[name].startswith("float") else int if _SCHEMA[name].startswith("int") else str
    try:
        return kind(text)
    except ValueError:
        wanted = "a fraction, as in keep=0.25" if kind is float else "one whole number"
        raise ConfigError(f"{name}={text} is no number: write {wanted}") from None


def _instead_of(word: str) -> str:
    near = difflib.get_close_matches(word.lstrip("-"), KEYS, n=1)
    named = word.replace("+", "").replace(",", "").isidentifier()
    return f"{near[0]}=VALUE" if near else f"strategy={word}" if named else "KEY=VALUE"
