"""`--model_args` of lmms-eval: words to a checked pipeline, and back to words that say everything.

lmms-eval keys its response cache on these words as they stand, not on what they mean.
`Arguments.line` therefore spells out every field of every strategy and the version of tokenprune:
equal lines give equal answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tokenprune
from tokenprune.errors import ConfigError, LmmsError
from tokenprune.options import SAMPLINGS, nearest
from tokenprune.strategy import Pipeline


@dataclass(frozen=True)
class Arguments:
    """What `--model tokenprune` can be told, besides the batch size and the device."""

    pretrained: str
    strategy: str = "none"
    max_frames_num: int = 32
    sampling: str = "index"  # of frames, evenly by number or by `time`
    max_new_tokens: int = 1024  # where a task sets none; lmms-eval's own number for LLaVA-OneVision
    dtype: str = "auto"
    seed: int = 0
    assistant: str | None = None
    plugin: str | None = None
    on_error: str = (
        "stop"  # what a video that cannot be read does; `empty` answers nothing and goes on
    )
    version: str = tokenprune.__version__
    # of strategies, as {"dycoke.merge": 0.5}
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_frames_num", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise LmmsError(
                    f"{name}={getattr(self, name)} is no number of anything: write at least 1"
                )
        if self.sampling not in SAMPLINGS:
            raise LmmsError(f"sampling={self.sampling} is unknown: write {' or '.join(SAMPLINGS)}")
        if self.on_error not in ("stop", "empty"):
            raise LmmsError(f"on_error={self.on_error} is unknown: write stop or empty")
        if self.version != tokenprune.__version__:
            raise LmmsError(
                f"version={self.version} wrote these arguments, and this is tokenprune "
                f"{tokenprune.__version__}: "
                "leave version= out to take them as this version means them"
            )

    @classmethod
    def parse(cls, words: Mapping[str, Any]) -> Arguments:
        """From what lmms-eval's parser makes of `a=1,b.c=[2,3]`; keys with a dot are options of
        strategies.

        Raises LmmsError; the strategy itself is checked by `pipeline`.
        """
        known = {
            key.name: str(key.type) for key in dataclasses.fields(cls) if key.name != "options"
        }
        plain: dict[str, Any] = {}
        options: dict[str, Any] = {}
        for name, value in words.items():
            if "." in name:
                options[name] = _structure(name, value)
                continue
            if name not in known:
                near = nearest(name, list(known))
                hint = f" did you mean {near}=?" if near else ""
                raise LmmsError(
                    f"unknown argument {name}=:{hint} Known: {', '.join(known)}, and STRATEGY.FIELD"
                )
            plain[name] = _typed(name, value, known[name])
        if "pretrained" not in plain:
            raise LmmsError("no model to run: write pretrained=NAME, as in pretrained=tiny")
        return cls(**plain, options=options)

    def pipeline(self) -> Pipeline:
        """The pipeline, checked.

        Raises LmmsError and StrategyError; runs the plugin, if there is one.
        """
        from tokenprune.plugins import load_plugin
        from tokenprune.registry import resolve

        try:
            if self.plugin is not None:
                load_plugin(self.plugin)
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
        said = {key: value for key, value in plain.items() if value is not None} | every
        return ",".join(f"{key}={_word(value)}" for key, value in said.items())


def _typed(name: str, value: Any, kind: str) -> Any:
    """lmms-eval guesses types from the text alone: a folder called 1 arrives as a number."""
    if not kind.startswith("int"):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise LmmsError(f"{name}={value} is no whole number")
    return value


def _structure(name: str, value: Any) -> Any:
    """Lists arrive as text, `[16,23]`; all else has its type already."""
    from yaml import YAMLError, safe_load

    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        return safe_load(value)
    except YAMLError:
        raise LmmsError(
            f"{name}={value} is no list that can be read: write it as in dytok.layers=[16,23]"
        ) from None


def _word(value: Any) -> str:
    """A value as lmms-eval's parser and `parse` read it back."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_word, value)) + "]"
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
