"""The dense oracle: the same model given as many visual tokens from the start, which is the limit
for that budget.

A method whose layers see different numbers of tokens has no dense model of its own budget. Its
oracle is put together from dense runs at each of its widths, measured in the same turn: layer l
contributes a share 1/L of the time of the run at the width of layer l. That is exact as far as
layers of one model cost the same, and leaves out embedding and `lm_head`, which do not depend on
visual tokens.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence

from tokenprune.bench.measure import PARTS, Reading

_BEFORE_FIRST = (*PARTS, "ttft_ms")


def widths(own: Reading) -> set[int]:
    """The dense runs that the oracle of `own` needs, in visual tokens; means over steps are
    rounded.
    """
    return {round(rows) for rows in (*own.layers, *own.decode)}


def oracle(own: Reading, dense: Mapping[int, Reading], tokens: int) -> Reading:
    """What a dense model would need for the budget of `own`; `dense` holds a reading at each of its
    widths.

    `tokens` is the number of generated ones. A decoding step has widths of its own, those a decode
    stage lets it see.
    """
    layers = [dense[round(rows)] for rows in own.layers]
    times = {name: statistics.fmean(at.times[name] for at in layers) for name in _BEFORE_FIRST}
    per_token = statistics.fmean(
        dense[round(rows)].times["decode_ms_per_token"] for rows in own.decode
    )
    times |= {
        "decode_ms_per_token": per_token,
        "total_ms": times["ttft_ms"] + (tokens - 1) * per_token,
    }
    cache = statistics.fmean(at.cache for at in layers)  # linear in rows, so exact
    return Reading(
        times, _peak(layers), cache, own.layers, [float(round(rows)) for rows in own.decode]
    )


def _peak(layers: Sequence[Reading]) -> float | None:
    """The layer where what the layers so far have cached, plus the temporaries at its width, is
    most.

    Never below the narrowest dense run, whose peak may lie in the tower.
    """
    peaks = [at.peak for at in layers if at.peak is not None]
    if len(peaks) < len(layers):
        return None
    cached = itertools.accumulate(at.cache / len(layers) for at in layers)
    return max(
        min(peaks),
        *(peak - at.cache + so_far for peak, at, so_far in zip(peaks, layers, cached, strict=True)),
    )
