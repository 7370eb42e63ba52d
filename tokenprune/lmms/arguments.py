"""`--model_args` of lmms-eval: words to a checked pipeline, and back to words that say everything.

lmms-eval keys its response cache on these words as they stand, not on what they mean.
`Arguments.line` therefore spells out every field of every strategy and the version of tokenprune:
equal lines give equal answers.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tokenprune
from tokenprune.errors import ConfigError, LmmsError
from tokenprune.loading.variant import Prompted
from tokenprune.loading.video import Spread
from tokenprune.options import (
    AND_OPTIONS,
    as_typed,
    check_counts,
    check_sampling,
    check_short,
    from_text,
    known,
    read_value,
)
from tokenprune.strategy import Pipeline


@dataclass(frozen=True)
class Arguments(Prompted):
    """What `--model tokenprune` can be told, besides the batch size and the device."""

    pretrained: str
    strategy: str = "none"
    max_frames_num: int = 32
    sampling: str = "index"  # of frames, evenly by number or by `time`
    short: str = "once"  # a video with fewer frames shows each once, or `repeat`s some
    max_new_tokens: int = 1024  # where a task sets none; lmms-eval's own number for LLaVA-OneVision
    dtype: str = "auto"
    seed: int = 0
    assistant: str | None = None
    images: bool = False  # compress images beside videos, too, where the family can
    plugin: list[str] = field(default_factory=list)  # as in plugin=[a.py,b.py]
    on_error: str = (
        "stop"  # what a video that cannot be read does; `empty` answers nothing and goes on
    )
    version: str = tokenprune.__version__
    # of strategies, as {"dycoke.merge": 0.5}
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "max_frames_num", "max_new_tokens")
        check_sampling(self.sampling)
        check_short(self.short)
        if self.on_error not in ("stop", "empty"):
            raise LmmsError(f"on_error={self.on_error} is unknown: write stop or empty")
        if self.version != tokenprune.__version__:
            raise LmmsError(
                f"version={self.version} wrote these arguments, and this is tokenprune "
                f"{tokenprune.__version__}: "
                "leave version= out to take them as this version means them"
            )

    @property
    def spread(self) -> Spread:
        """How frames of a video are chosen."""
        return Spread(self.max_frames_num, self.sampling, self.short)

    @classmethod
    def parse(cls, words: Mapping[str, Any]) -> Arguments:
        """From what lmms-eval's parser makes of `a=1,b.c=[2,3]`; keys with a dot are options of
        strategies.

        Raises LmmsError; the strategy itself is checked by `pipeline`.
        """
        try:
            return cls(**_fields(words))
        except ConfigError as error:
            raise LmmsError(str(error)) from None

    def pipeline(self) -> Pipeline:
        """The pipeline, checked.

        Raises LmmsError and StrategyError; runs the plugin, if there is one.
        """
        from tokenprune.plugins import load_plugins
        from tokenprune.registry import resolve

        try:
            load_plugins(self.plugin)
            return resolve(self.strategy, self.options, seed=self.seed, assistant=self.assistant)
        except ConfigError as error:
            raise LmmsError(str(error)) from None

    def line(self) -> str:
        """The same arguments, spelled out; `parse` of it gives the same pipeline."""
        from tokenprune.registry import resolved_fields

        plain = {
            key.name: getattr(self, key.name)
            for key in dataclasses.fields(self)
            if key.name != "options"
        }
        every = {
            f"{name}.{key}": value
            for name, values in resolved_fields(self.pipeline()).items()
            for key, value in values.items()
        }
        said = {key: value for key, value in plain.items() if value not in (None, [])} | every
        return ",".join(f"{key}={as_typed(value)}" for key, value in said.items())


def _fields(words: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Arguments`.

    lmms-eval guesses types from the text alone, so that a folder called 1 arrives as a number: what
    it makes of a word is read again as the field has it. Lists arrive as text, `[16,23]`.
    """
    hints = typing.get_type_hints(Arguments)
    names = [one.name for one in dataclasses.fields(Arguments) if one.name != "options"]
    found: dict[str, Any] = {"options": {}}
    for name, value in words.items():
        if "." in name:
            found["options"][name] = _structure(name, value)
            continue
        known(name, names, AND_OPTIONS)
        found[name] = from_text(name, as_typed(value), hints[name])
    if "pretrained" not in found:
        raise ConfigError("no model to run: write pretrained=NAME, as in pretrained=tiny")
    return found


def _structure(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    return read_value(name, value)
