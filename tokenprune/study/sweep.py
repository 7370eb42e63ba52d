"""What a sweep is: words like `strategy=dycoke,fastv keep=0.5,0.25 fastv.layer=1,2`, checked against one dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from tokenprune.config import ConfigError, parse

Number = TypeVar("Number")

KEEP = (0.5, 0.25, 0.1)


def _key(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class SweepConfig:
    """Everything `tokenprune sweep` can be told, and the schema of it."""

    strategy: list[str] = field(
        default_factory=list, metadata={"help": "methods to compare, as in dycoke,fastv,prumerge+dytok"}
    )
    keep: list[float] = field(
        default_factory=lambda: list(KEEP), metadata={"help": "visual tokens left, mean over LLM layers, as 0.5,0.25"}
    )
    model: str = _key("tiny", "tiny (embedded), a folder, or a hub id")
    assistant: str | None = _key(None, "a smaller model of the same family that weighs frames for dytok")
    task: str = _key("tinyvqa", "samples to evaluate on, as in `tokenprune run`")
    frames: int = _key(16, "frames per video")
    samples: int | None = _key(None, "how many samples the task makes; its own number by default")
    limit: int | None = _key(None, "evaluate at most this many samples")
    seed: int = _key(0, "of samples, random draws and resampling")
    max_new_tokens: int = _key(48, "longest answer, in tokens")
    batch_size: int = _key(1, "samples per forward pass")
    device: str = _key("auto", "auto, cpu, cuda, cuda:1 or mps")
    dtype: str = _key("auto", "auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the checkpoint's")
    workers: int | None = _key(None, "processes; as many as cores on a CPU, else 1")
    out: str | None = _key(None, "folder for results and finished cells; runs/sweep-..., named after the other words")
    options: dict[str, list[Any]] = field(default_factory=dict)  # of strategies, as {"fastv.layer": [1, 2]}

    def __post_init__(self) -> None:
        for key in ("frames", "samples", "limit", "max_new_tokens", "batch_size", "workers"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"{key}={value} is no number of anything: write at least 1")
        if not self.strategy:
            raise ConfigError("nothing to sweep: write strategy=NAME,NAME, as in strategy=dycoke,fastv,prumerge+dytok")
        if not self.keep:
            raise ConfigError("keep= is empty: write fractions of tokens, as in keep=0.5,0.25")
        for ratio in self.keep:
            if not 0.0 < ratio <= 1.0:
                meant = f"{ratio / 100:g}" if 1.0 < ratio <= 100.0 else "0.5,0.25"
                raise ConfigError(f"keep={ratio:g} is no fraction above 0 and up to 1: write keep={meant}")
        for key, values in (("strategy", self.strategy), ("keep", self.keep), *self.options.items()):
            for place, value in enumerate(values):
                if value in values[:place]:
                    raise ConfigError(f"{key}= names {_shown(value)} twice: leave one of them out")

    @property
    def folder(self) -> str:
        """`out`, or a name that only the same sweep has, so that the same command finds what it has finished."""
        if self.out is not None:
            return self.out
        asked = {key: value for key, value in vars(self).items() if key not in ("out", "workers")}
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
        names = re.sub(r"[^\w+]+", "_", ",".join(self.strategy))
        return f"runs/sweep-{names if len(names) <= 60 else f'{len(self.strategy)}-strategies'}-{digest[:8]}"


class Variant(NamedTuple):
    """One strategy of the grid with one choice of options."""

    spec: str
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """`fastv (layer=1)`; options of composed strategies keep their owner."""
        alone = "+" not in self.spec
        short = {key.partition(".")[2] if alone else key: value for key, value in self.options.items()}
        return (
            f"{self.spec} ({', '.join(f'{key}={_shown(value)}' for key, value in short.items())})"
            if short
            else self.spec
        )


def variants(config: SweepConfig) -> list[Variant]:
    """The grid without its budgets. ConfigError for options that no strategy of it takes."""
    owners = {key: key.partition(".")[0] for key in config.options}
    names = {name.strip() for spec in config.strategy for name in spec.split("+")}
    for key, owner in owners.items():
        if owner not in names:
            near = difflib.get_close_matches(owner, names, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]}.{key.partition('.')[2]}=?" if near else f"add {owner} to it, or leave it out"
            )
            raise ConfigError(f"{key}= is an option of no strategy in strategy={','.join(config.strategy)}: {hint}")
    found = []
    for spec in config.strategy:
        mine = [key for key, owner in owners.items() if owner in [name.strip() for name in spec.split("+")]]
        for chosen in itertools.product(*(config.options[key] for key in mine)):
            found.append(Variant(spec, dict(zip(mine, chosen, strict=True))))
    return found


_SCHEMA = {key.name: str(key.type) for key in dataclasses.fields(SweepConfig) if key.name != "options"}
KEYS = tuple(_SCHEMA)


def parse_sweep(words: Sequence[str]) -> SweepConfig:
    """The sweep that `KEY=VALUE` words describe; commas separate what is swept. Raises ConfigError."""
    plain: dict[str, Any] = {}
    options: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"{word!r} is no KEY=VALUE: write {_instead_of(word)}")
        if name in plain or name in options:
            raise ConfigError(f"{name}= is given twice: write all its values at once, as in {name}=A,B")
        if not text.strip():
            raise ConfigError(f"{name}= is empty: write {name}=VALUE, or leave it out")
        if "." in name:
            options[name] = [parse([f"{name}={value}"]).options.get(name) for value in _split(name, text)]
        elif name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.5)
            hint = f": did you mean {near[0]}=?" if near else "."
            raise ConfigError(f"unknown key {name!r}{hint} Keys: {', '.join(KEYS)}, and STRATEGY.FIELD")
        else:
            plain[name] = _read(name, text)
    return SweepConfig(**plain, options=options)


def _read(name: str, text: str) -> Any:
    """The value of a plain key."""
    if name == "strategy":
        return _split(name, text)
    if name == "keep":
        return [
            _number(name, value, float, "fractions above 0 and up to 1, as in keep=0.5,0.25")
            for value in _split(name, text)
        ]
    if _SCHEMA[name].startswith("int"):
        return _number(name, text, int, "one whole number")
    return text


def _number(name: str, text: str, kind: Callable[[str], Number], wanted: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{name}={text} is no number: write {wanted}") from None


def _split(name: str, text: str) -> list[str]:
    """`a,[b,c]` as `a` and `[b,c]`."""
    parts = [part.strip() for part in re.split(r",(?![^\[({]*[\])}])", text)]
    if not all(parts):
        raise ConfigError(f"{name}={text} has nothing between two commas: write {name}={','.join(filter(None, parts))}")
    return parts


def _instead_of(word: str) -> str:
    near = difflib.get_close_matches(word.lstrip("-"), KEYS, n=1)
    named = word.replace("+", "").replace(",", "").isidentifier()
    return f"{near[0]}=VALUE" if near else f"strategy={word}" if named else "KEY=VALUE"


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
