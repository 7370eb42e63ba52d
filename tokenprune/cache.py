"""The key/value cache of a compressed prompt: stock dynamic layers that refuse what would misalign their rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from tokenprune.errors import UnsupportedGenerationError


class CompressedLayer(DynamicLayer):
    """A dynamic layer whose rows are fewer than the tokens seen, so that it must only ever grow."""

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            _refuse("assisted and prompt-lookup decoding rewind the cache", "generate without an assistant model")

    def batch_repeat_interleave(self, repeats: int) -> None:
        _refuse("this decoding method repeats the cache", "use greedy search or sampling")

    def batch_select_indices(self, indices: Tensor) -> None:
        _refuse("this decoding method selects from the cache", "use greedy search or sampling")


class HidingLayer(CompressedLayer):
    """A compressed layer with a decode stage, whose state belongs to one hypothesis."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        _refuse("beam search cannot be combined with a decode stage", "set num_beams=1, or turn the stage off")


def compressed_cache(cache: Cache | None, depth: int, layer: Callable[[], CompressedLayer]) -> DynamicCache:
    """An empty cache of guarded layers made by `layer`; `cache` itself if given, so that the caller's object fills."""
    if cache is None:
        cache = DynamicCache()
    stock = all(type(layer) is DynamicLayer for layer in cache.layers)
    if type(cache) is not DynamicCache or not stock or cache.offloading:
        kinds = {type(layer).__name__ for layer in cache.layers} or {type(cache).__name__}
        raise UnsupportedGenerationError(
            f"a {type(cache).__name__} of {', '.join(sorted(kinds))} cannot hold a different number of rows in "
            "different layers: generate with the default dynamic cache (no cache_implementation, no sliding window)"
        )
    cache.layers[:] = [layer() for _ in range(depth)]
    return cache


def _refuse(what: str, instead: str) -> NoReturn:
    raise UnsupportedGenerationError(f"{what}, which the cache of a compressed prompt cannot do: {instead}")
