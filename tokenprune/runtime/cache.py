"""The key/value cache of a compressed prompt.

Its layers are stock dynamic ones that refuse what would misalign their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
)

from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime.table import take


class Guarded(CacheLayerMixin):
    """A layer whose rows are fewer than the tokens seen, so that it must only ever grow.

    It reports the tokens *seen*, as stock layers with a sliding window do: `generate` counts by
    that what is new in a further turn, and masks begin with the columns that are gone. Positions
    and masks are corrected in the passes that a session leads, but not in others: after the block,
    on another model, or on a copy of the cache.
    """

    # whether a session leads the pass under way; None: no session has filled this layer
    led: bool | None = None
    gone = 0  # columns of the prompt that this layer does not hold

    @property
    def rows(self) -> int:
        """How many rows have come in."""
        return super().get_seq_length()  # pyright: ignore[reportAbstractUsage]

    @property
    def holds(self) -> bool:
        """Whether any rows have come in."""
        return self.rows > 0

    def get_seq_length(self) -> int:
        """Columns seen, those that are gone included."""
        return self.rows + self.gone

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length of what the next update returns, and the column that its first row stands at."""
        length, first = super().get_mask_sizes(query_length)  # pyright: ignore[reportAbstractUsage]
        return length, first + self.gone

    @no_type_check  # compiled with a static cache, which checked annotations cannot be
    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not torch.compiler.is_compiling():  # whose passes a session does not lead
            self.check_led()
        return super().update(key_states, value_states, *args, **kwargs)

    def check_led(self) -> None:
        if self.led is False:
            raise UnsupportedGenerationError(
                "the cache of a compressed prompt grows only inside the attach block that filled "
                "it, on the same model and not as a copy: keep that block open until the last "
                "token and for further turns, or send the whole conversation anew without this "
                "cache"
            )

    def reset(self) -> None:
        self.led, self.gone = None, 0
        super().reset()

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            _refuse(
                "assisted and prompt-lookup decoding rewind the cache",
                "generate without an assistant model",
            )

    def batch_repeat_interleave(self, repeats: int) -> None:
        _refuse("this decoding method repeats the cache", "use greedy search or sampling")

    def batch_select_indices(self, indices: Tensor) -> None:
        _refuse("this decoding method selects from the cache", "use greedy search or sampling")


class CompressedLayer(Guarded, DynamicLayer):
    """A dynamic layer that holds every row that has come in."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.rows + query_length, self.gone

    def keep(self, columns: Int[Tensor, "*b m"]) -> None:
        """Forgets all rows but `columns`."""
        assert self.keys is not None and self.values is not None
        self.keys, self.values = chosen(self.keys, columns), chosen(self.values, columns)


class WindowLayer(Guarded, DynamicSlidingWindowLayer):
    """A layer with a sliding window, which counts rows as if the shorter prompt had been sent."""


class HidingLayer(CompressedLayer):
    """A compressed layer with a decode stage, whose state belongs to one hypothesis."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        _refuse(
            "beam search cannot be combined with a decode stage",
            "set num_beams=1, or turn the stage off",
        )


def chosen(states: Float[Tensor, "b g t e"], columns: Int[Tensor, "*b m"]) -> Tensor:
    """Columns of keys or values."""
    return take(states, columns, 2)


def compressed_cache(
    cache: Cache | None,
    depth: int,
    layer: Callable[[], CompressedLayer],
    windows: Sequence[int | None] = (),
    fixed: Callable[[Cache], list[Any]] | None = None,
) -> Cache:
    """An empty cache of guarded layers made by `layer`; those that have a window keep it.

    It is `cache` itself if given, so that the caller's object fills. `fixed` makes the layers of a
    static one, which is refused without.
    """
    windows = windows or [None] * depth
    if cache is None:
        cache = DynamicCache()
    if (reason := _unfit(cache, any(windows), fixed is not None)) is not None:
        raise UnsupportedGenerationError(reason)
    if fixed is not None and _static(cache):
        cache.layers[:] = fixed(cache)
    else:
        cache.layers[:] = [layer() if one is None else WindowLayer(one) for one in windows]
    return cache


def holds(cache: Cache) -> bool:
    """Whether any rows have come in; asks no device about layers of ours."""
    first = cache.layers[0] if cache.layers else None
    return first.holds if isinstance(first, Guarded) else bool(cache.get_seq_length())


def lead(cache: Cache | None, led: bool) -> None:
    """Begins or ends a pass in which the layers of `cache` may grow.

    Other layers than ours are left alone.
    """
    for layer in () if cache is None else cache.layers:
        if isinstance(layer, Guarded) and layer.led is not led:
            layer.led = led


def _unfit(cache: Cache, windows: bool, fixed: bool) -> str | None:
    """Why a cache cannot take a compressed prompt, and what to write instead."""
    if getattr(cache, "offloading", False):
        return (
            "an offloaded cache moves whole layers, which would undo the selection of rows: leave "
            "out cache_implementation='offloaded' (or DynamicCache's offloading); a compressed "
            "cache is smaller, and dycoke.offload=true keeps what decoding hides in host memory"
        )
    if _static(cache):
        return _unfit_static(cache, windows, fixed)
    odd = [layer for layer in cache.layers if not _plain(layer, windows)]
    kinds = sorted({type(layer).__name__ for layer in odd})
    if any("Quant" in name for name in (type(cache).__name__, *kinds)):
        return (
            "a quantised cache rewrites rows that token selection has to find again: leave out "
            "cache_implementation='quantized', and generate with the default dynamic cache, which "
            "selection makes small"
        )
    if any("Sliding" in name for name in kinds):
        return (
            "a sliding window forgets rows by their number, which token selection changes: set "
            "use_sliding_window=False in the model's text configuration, and generate with the "
            "default dynamic cache"
        )
    if type(cache) is not DynamicCache or kinds:
        what = type(cache).__name__ + (f" of {', '.join(kinds)}" if kinds else "")
        return (
            f"a {what} is not known to hold different numbers of rows in different layers: "
            "generate with the default dynamic cache (no cache_implementation), or pass an empty "
            "DynamicCache()"
        )
    return None


def _static(cache: Cache) -> bool:
    return any(isinstance(layer, StaticLayer) for layer in cache.layers)


def _unfit_static(cache: Cache, windows: bool, fixed: bool) -> str | None:
    if windows or any(cache.is_sliding):
        return (
            "a static cache of layers with a sliding window forgets rows by their number, which "
            "token selection changes: leave cache_implementation out (the default dynamic cache)"
        )
    if not fixed:
        return (
            "a static cache holds what a decode stage shows if nothing is offloaded and no prefill "
            "stage drops rows beside it: leave cache_implementation out (the default dynamic "
            "cache), or turn one of them off"
        )
    if not all(type(layer) is StaticLayer or isinstance(layer, Guarded) for layer in cache.layers):
        kinds = sorted({type(layer).__name__ for layer in cache.layers})
        return f"a static cache of {', '.join(kinds)} is not known to hold fewer rows: leave it out"
    if any(isinstance(layer, Guarded) and layer.holds for layer in cache.layers):
        return "the static cache is not empty: call its reset(), or pass a new one"
    return None


def _plain(layer: Any, windows: bool) -> bool:
    """A stock layer, with a window where the model has them, or one of ours that was emptied."""
    if isinstance(layer, Guarded):
        return not layer.get_seq_length()
    return type(layer) is DynamicLayer or (windows and type(layer) is DynamicSlidingWindowLayer)


def _refuse(what: str, instead: str) -> NoReturn:
    raise UnsupportedGenerationError(
        f"{what}, which the cache of a compressed prompt cannot do: {instead}"
    )
