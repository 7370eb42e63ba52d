"""The dense oracle: the same model given as many visual tokens from the start.

It is the limit for that budget.

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

from tokenprune.bench.reading import PARTS, Reading, Seen

_BEFORE_FIRST = (*PARTS, "ttft_ms")


def widths(seen: Seen) -> set[int]:
    """The dense runs that an oracle needs, in visual tokens; means over steps are rounded."""
    return {round(rows) for rows in (*seen.layers, *seen.decode)}


def oracle(seen: Seen, dense: Mapping[int, Reading], tokens: int) -> Reading:
    """What a dense model would need for the budget of `seen`, to generate `tokens` tokens.

    `dense` holds a reading at each of its widths. A decoding step has widths of its own, those a
    decode stage lets it see.
    """
    layers = [dense[round(rows)] for rows in seen.layers]
    steps = [dense[round(rows)] for rows in seen.decode]
    per_token = statistics.fmean(at.times["decode_ms_per_token"] for at in steps)
    times = {name: statistics.fmean(at.times[name] for at in layers) for name in _BEFORE_FIRST}
    times["decode_ms_per_token"] = per_token
    times["total_ms"] = times["ttft_ms"] + (tokens - 1) * per_token
    cache = statistics.fmean(at.cache for at in layers)  # linear in rows, so exact
    rounded = [float(round(rows)) for rows in seen.decode]
    return Reading(times, _peak(layers), cache, Seen(seen.layers, rounded))


def _peak(layers: Sequence[Reading]) -> float | None:
    """The layer where what was cached so far, plus the temporaries at its width, is most.

    Never below the narrowest dense run, whose peak may lie in the tower.
    """
    peaks = [at.peak for at in layers if at.peak is not None]
    if len(peaks) < len(layers):
        return None
    cached = itertools.accumulate(at.cache / len(layers) for at in layers)
    turns = zip(peaks, layers, cached, strict=True)
    reached = [peak - at.cache + so_far for peak, at, so_far in turns]
    return max(min(peaks), *reached)
