"""What a sweep is: words like `strategy=dycoke,fastv keep=0.5,0.25`, against one dataclass.

Light to import: the command line reads its help from here.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tokenprune.errors import ConfigError
from tokenprune.options import (
    as_typed,
    check_fraction,
    check_once,
    check_owners,
    key,
    keys_of,
    options_of,
    read_options,
)
from tokenprune.study.config import CellConfig

# keys that change no result
_ELSEWHERE = ("out", "workers", "trainer", "launcher", "jobs", "slurm")
KEEP = (0.5, 0.25, 0.1)


@dataclass(frozen=True)
class SweepConfig(CellConfig):
    """Everything `tokenprune sweep` can be told, and the schema of it."""

    strategy: list[str] = key(list, "methods to compare, as in dycoke,fastv,prumerge+dytok")
    keep: list[float] = key(
        lambda: list(KEEP),
        "visual tokens left, mean over LLM layers, as 0.5,0.25",
        example="0.5,0.25",
    )
    assistant: str | None = key(
        None, "a smaller model of the same family that weighs frames for dytok"
    )
    out: str | None = key(
        None, "folder for results and finished cells; runs/sweep-..., named after the other words"
    )
    # of strategies, as {"fastv.layer": [1, 2]}
    options: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strategy:
            raise ConfigError(
                "nothing to sweep: write strategy=NAME,NAME, as in "
                "strategy=dycoke,fastv,prumerge+dytok"
            )
        if not self.keep:
            raise ConfigError("keep= is empty: write fractions of tokens, as in keep=0.5,0.25")
        for ratio in self.keep:
            check_fraction("keep", ratio, "0.5,0.25")
        for name, values in (
            ("strategy", self.strategy),
            ("keep", self.keep),
            *self.options.items(),
        ):
            check_once(name, values)

    @property
    def folder(self) -> str:
        """`out`, or a name that only the same sweep has: the same command finds it again."""
        if self.out is not None:
            return self.out
        given = {key: value for key, value in vars(self).items() if key not in _ELSEWHERE}
        text = json.dumps(given, sort_keys=True, default=str)
        import hashlib  # slow, and help needs none

        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        names = re.sub(r"[^\w+]+", "_", ",".join(self.strategy))
        if len(names) > 60:
            names = f"{len(self.strategy)}-strategies"
        return f"runs/sweep-{names}-{digest}"


class Variant(NamedTuple):
    """One strategy of the grid with one choice of options."""

    spec: str
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """`fastv (layer=1)`; options of composed strategies keep their owner."""
        if not self.options:
            return self.spec
        composed = "+" in self.spec
        words = [
            f"{key if composed else key.partition('.')[2]}={as_typed(value)}"
            for key, value in self.options.items()
        ]
        return f"{self.spec} ({', '.join(words)})"


def variants(config: SweepConfig) -> list[Variant]:
    """The grid without its budgets. ConfigError for options that no strategy of it takes."""
    check_owners(config.options, config.strategy)
    found = []
    for spec in config.strategy:
        mine = options_of(spec, config.options)
        for chosen in itertools.product(*mine.values()):
            found.append(Variant(spec, dict(zip(mine, chosen, strict=True))))
    return found


KEYS = tuple(keys_of(SweepConfig))


def parse_sweep(words: Sequence[str]) -> SweepConfig:
    """The sweep that `KEY=VALUE` words describe; commas separate what is swept.

    Raises ConfigError.
    """
    return read_options(SweepConfig, words, section="sweep", swept=True)
