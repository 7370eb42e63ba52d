"""Analytic columns: named functions of settings and model sizes, without a run.

Each gives one or more readings of what a paper may have counted. Sources and symbols are the
papers'; operations are multiply-adds, of visual tokens only, where nothing else is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenprune import flops
from tokenprune.errors import ConfigError
from tokenprune.flops import c2, c3, cs
from tokenprune.reproduce.models import Model

_UNITS = {"T": 1e12, "G": 1e9}


@dataclass(frozen=True)
class Setting:
    """What a formula may ask for.

    Args:
        values: what the row prints as its settings, and its `also:` for this column
        known: the model of the row; None where no sizes are known
        guide: the model that guides DyToK, likewise
        unit: of the column
    """

    values: Mapping[str, Any]
    known: Model | None = None
    guide: Model | None = None
    unit: str = ""

    @property
    def model(self) -> Model:
        if self.known is None:
            raise ConfigError("this formula needs a model whose sizes are known")
        return self.known

    def number(self, name: str, default: float | int | None = None) -> float:
        """A setting. ConfigError where the row has none and there is no default."""
        value = self.values.get(name, default)
        if value is None:
            raise ConfigError(f"this formula needs {name}: write it into the row's settings")
        return float(value)

    @property
    def visual(self) -> float:
        """Visual tokens at the input of the full language model, of all frames."""
        cells = self.number("cells", self.model.cells or None)
        return self.number("frames", 1) * cells

    def shown(self, operations: float) -> float:
        """In the column's unit."""
        return operations / _UNITS.get(self.unit, 1.0)


Readings = list[float]
Formula = Callable[[Setting], Readings]


def dycoke_final_ratio(at: Setting) -> Readings:
    """(1 - 0.75 K)(1 - P) in percent: visual tokens that a pruned decode step of DyCoke sees."""
    return [100 * _merged(at) * (1 - at.number("P", 0))]


def _merged(at: Setting) -> float:
    """The share of visual tokens that DyCoke's temporal merging leaves: of four frames one whole,
    three with 1 - K of their tokens.
    """
    return 1 - 0.75 * at.number("K", 0)


def dycoke_eq8(at: Setting) -> Readings:
    """DyCoke eq. 8, prefill and 100 decoded tokens; `x`: another share of tokens at the input,
    `keep` with `fastv_layer`: FastV's.

    Read twice: the decoded tokens attend to all visual tokens that were kept, or to those that
    pruning while decoding leaves.
    """
    decoder, every = at.model.decoder, at.visual
    if "keep" in at.values:
        above, depth = at.number("keep") * every, int(at.number("fastv_layer"))
        layers = [every] * depth + [above] * (decoder.layers - depth)
        found = [flops.dycoke(decoder, layers), flops.dycoke(decoder, layers, decode_x=above)]
    else:
        x = at.number("x", _merged(at)) * every
        pruned = x * (1 - at.number("P", 0))
        found = [flops.dycoke(decoder, x), flops.dycoke(decoder, x, decode_x=pruned)]
    return [at.shown(one) for one in found]


def dycoke_eq8_pct(at: Setting) -> Readings:
    """`dycoke_eq8` in percent of the full model's; DyCoke calls it FLOPs ratio (FR)."""
    full = at.shown(flops.dycoke(at.model.decoder, at.visual))
    return [100 * one / full for one in dycoke_eq8(at)]


def budget_exact(at: Setting) -> Readings:
    """Tokens per frame that a nominal percentage is, DyToK Table 17."""
    return [at.model.cells * at.number("nominal_keep_pct", 100) / 100]


def budget(at: Setting) -> Readings:
    """Those rounded down to a multiple of 7, DyToK Table 17."""
    (exact,) = budget_exact(at)
    return [float(7 * math.floor(exact / 7 + 1e-9))]


def visionzip_dominant(at: Setting) -> Readings:
    """Of `budget`, six of seven, DyToK Table 17."""
    return [budget(at)[0] * 6 / 7]


def visionzip_contextual(at: Setting) -> Readings:
    """Of `budget`, one of seven, DyToK Table 17."""
    return [budget(at)[0] / 7]


def dytok_table16(at: Setting) -> Readings:
    """DyToK eq. 1 over `budget` tokens per frame, and its guide's over all tokens."""
    found = flops.prefill(at.model.decoder, at.number("frames") * budget(at)[0], c2)
    if at.guide is not None and at.number("nominal_keep_pct", 100) < 100:
        found += flops.prefill(at.guide.decoder, at.visual, c2)
    return [at.shown(found)]


def fastv_layer_flops(at: Setting) -> Readings:
    """FastV section 3.3: the average layer, over `text` (36) and all visual tokens in the first K
    layers, over text and 1 - R of them above.
    """
    decoder, text = at.model.decoder, at.number("text", 36)
    depth = int(at.number("K", decoder.layers))
    above = text + (1 - at.number("R", 0)) * at.visual
    layers = [text + at.visual] * depth + [above] * (decoder.layers - depth)
    return [at.shown(flops.prefill(decoder, layers, c2) / decoder.layers)]


def fastv_pct(at: Setting) -> Readings:
    """That in percent of the full model's, FastV eq. 5."""
    full = c2(at.model.decoder, at.number("text", 36) + at.visual)
    return [100 * one * _UNITS.get(at.unit, 1.0) / full for one in fastv_layer_flops(at)]


def c2_prefill(at: Setting) -> Readings:
    """Prefill as most papers count it, over `x` of the visual tokens or as FastV with K and R."""
    return [at.shown(flops.prefill(at.model.decoder, _layers(at), c2))]


def c3_prefill(at: Setting) -> Readings:
    """The same with three FFN matrices, as PyramidDrop counts."""
    return [at.shown(flops.prefill(at.model.decoder, _layers(at), c3))]


def cs_prefill(at: Setting) -> Readings:
    """The same with grouped keys and values too, as FastVID counts: the stricter count."""
    return [at.shown(flops.prefill(at.model.decoder, _layers(at), cs))]


def _layers(at: Setting) -> list[float]:
    """Visual tokens in each layer."""
    every, depth = at.number("x", 1) * at.visual, at.model.layers
    first = int(at.number("K", depth))
    return [every] * first + [(1 - at.number("R", 0)) * every] * (depth - first)


def tokens(at: Setting) -> Readings:
    """Visual tokens at the input of the language model, `x` of all."""
    return [at.number("x", 1) * at.visual]


def tokens_pct(at: Setting) -> Readings:
    """`tokens` of a row in percent of `of` tokens."""
    return [100 * at.number("tokens") / at.number("of")]


def hidden(at: Setting) -> Readings:
    return [float(at.model.width)]


def ffn(at: Setting) -> Readings:
    return [float(at.model.ffn)]


def layers(at: Setting) -> Readings:
    return [float(at.model.layers)]


def tokens_per_frame(at: Setting) -> Readings:
    return [float(at.model.cells)]


FORMULAS: dict[str, Formula] = {
    formula.__name__: formula
    for formula in (
        dycoke_final_ratio,
        dycoke_eq8,
        dycoke_eq8_pct,
        budget_exact,
        budget,
        visionzip_dominant,
        visionzip_contextual,
        dytok_table16,
        fastv_layer_flops,
        fastv_pct,
        c2_prefill,
        c3_prefill,
        cs_prefill,
        tokens,
        tokens_pct,
        hidden,
        ffn,
        layers,
        tokens_per_frame,
    )
}
