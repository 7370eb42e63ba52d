"""What differs between the versions of libraries that we allow, asked of the library itself and never of its version.

Names of arguments and fields that some release renamed stand here and nowhere else.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

# the key/value cache in `forward` and in what it returns: transformers 5.24 renamed the second to the first
CACHE = ("cache", "past_key_values")
ENCODED = "mm_encoder_outputs"  # features that `generate` has made before it calls `forward`


def named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call to `module` by name; a cache by the name that `module` has for it."""
    given = {**dict(zip(parameters(type(module)), args, strict=False)), **kwargs}
    if len(found := [name for name in CACHE if name in given]) == 1:
        given[cache_name(type(module))] = given.pop(found[0])
    return given


@cache
def parameters(kind: type[nn.Module]) -> tuple[str, ...]:
    """Names of what `forward` takes; inspecting takes longer than a hook should, and every layer has one."""
    return tuple(inspect.signature(kind.forward).parameters)[1:]


@cache
def cache_name(kind: type[nn.Module]) -> str:
    """What `forward` calls the cache; the older name where it does not say."""
    return next((name for name in CACHE if name in parameters(kind)), CACHE[-1])


def given_cache(given: dict[str, Any]) -> Cache | None:
    """The cache among the arguments of a call."""
    return next((given[name] for name in CACHE if given.get(name) is not None), None)


def caching(module: nn.Module, cache: Cache) -> dict[str, Cache]:
    """The argument that hands `cache` to `module`, or to its `generate`."""
    return {cache_name(type(module)): cache}


def filled_cache(output: Any) -> Cache:
    """The cache in what `forward` or `generate` has returned; KeyError where none was wanted."""
    return output[next((name for name in CACHE if name in output), CACHE[0])]


def encoded_video(given: dict[str, Any]) -> Any:
    """A video's features that were made before this call, None if it brings pixels or none at all."""
    return (given.get(ENCODED) or {}).get("video")


def encoded(features: Tensor) -> dict[str, Any]:
    """The argument that hands over features of a video instead of its pixels."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    # transformers declares its own tensor type for the field
    return {ENCODED: {"video": BaseModelOutputWithPooling(pooler_output=features)}}  # pyright: ignore
