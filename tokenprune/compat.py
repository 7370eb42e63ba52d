"""What differs between the versions of libraries that we allow, asked of the library itself and
never of its version.

Names of arguments and fields that some release renamed stand here and nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from transformers.cache_utils import Cache

# the key/value cache in `forward` and in what it returns: transformers 5.24 renamed the second to
# the first
CACHE = ("cache", "past_key_values")
ENCODED = "mm_encoder_outputs"  # features that `generate` has made before it calls `forward`


def named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call to `module` by name; a cache by the name that `module` has for it."""
    given = {**dict(zip(parameters(module), args, strict=False)), **kwargs}
    if len(found := [name for name in CACHE if name in given]) == 1:
        given[cache_name(module)] = given.pop(found[0])
    return given


def parameters(module: nn.Module) -> tuple[str, ...]:
    """Names of what `forward` takes; a wrapper that only passes on, as torch's for checkpointing,
    has its module's.
    """
    while not (names := _declared(type(module))) and len(inner := list(module.children())) == 1:
        module = inner[0]
    return names


@cache
def _declared(kind: type[nn.Module]) -> tuple[str, ...]:
    """Inspecting takes longer than a hook should, and every layer has one."""
    named = inspect.signature(kind.forward).parameters.values()
    return tuple(
        one.name for one in named if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    )[1:]


def cache_name(module: nn.Module) -> str:
    """What `forward` calls the cache; the older name where it does not say."""
    return next((name for name in CACHE if name in parameters(module)), CACHE[-1])


def checkpoints(layer: nn.Module) -> bool:
    """Whether a decoder layer forgets its activations and runs again in the backward pass; it then
    caches nothing.
    """
    return layer.training and bool(getattr(layer, "gradient_checkpointing", False))


def given_cache(given: Mapping[str, Any]) -> Cache | None:
    """The cache among the arguments of a call."""
    return next((given[name] for name in CACHE if given.get(name) is not None), None)


def caching(module: nn.Module, cache: Cache) -> dict[str, Cache]:
    """The argument that hands `cache` to `module`, or to its `generate`."""
    return {cache_name(module): cache}


def filled_cache(output: Any) -> Cache:
    """The cache in what `forward` or `generate` has returned; KeyError where none was wanted."""
    return output[next((name for name in CACHE if name in output), CACHE[0])]


def graphs(most: int) -> AbstractContextManager[Any]:
    """Within it torch keeps up to `most` graphs of what it compiles; before 2.6 by another name."""
    from torch._dynamo import config  # takes a second

    names = ("recompile_limit", "cache_size_limit")
    return config.patch({next(name for name in names if hasattr(config, name)): most})


def encoded_media(given: Mapping[str, Any], kind: str) -> Any:
    """Features of `kind` ("video" or "image") that were made before this call; None if it brings
    pixels or nothing.
    """
    return (given.get(ENCODED) or {}).get(kind)


def encoded(features: Any, kind: str = "video", deeper: Sequence[Any] = ()) -> dict[str, Any]:
    """The argument that hands over features of videos (or images) instead of their pixels.

    `deeper` are those that deepstack adds between layers.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    # transformers declares its own tensor type for the field
    output: Any = BaseModelOutputWithPooling(pooler_output=features)  # pyright: ignore
    if deeper:  # a field of some families' outputs only
        output.deepstack_features = list(deeper)
    return {ENCODED: {kind: output}}


def handed(output: Any, kind: str = "video") -> dict[str, Any]:
    """The argument that hands over what a model's own encoder of `kind` has returned."""
    return {ENCODED: {kind: output}}


def open_video(file: str) -> InputContainer:
    """`av.open` that reads tags in any encoding.

    Before 19 a tag that is no UTF-8 is an error unless told otherwise; since 19 it never is, and
    the argument is gone.
    """
    import av

    try:
        return av.open(file, metadata_errors="ignore")
    except TypeError:  # compiled: it has no signature to ask
        return av.open(file)


def pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams without cover art, which for PyAV 14.0 is a JPEG or PNG beside another
    stream.
    """
    streams = list(container.streams.video)
    if streams and hasattr(streams[0], "disposition"):
        from av.stream import Disposition

        return [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    moving = [stream for stream in streams if stream.codec_context.name not in ("mjpeg", "png")]
    return moving or streams


@cache
def converting() -> dict[str, Any]:
    """Arguments of `VideoFrame.to_ndarray` under which a process that was forked can convert, too.

    From 17 on PyAV converts in several threads unless told otherwise, and those of 19 are lost by a
    fork: a worker of a loader would wait for them for ever.
    """
    import av

    try:
        av.VideoFrame(2, 2, "yuv420p").to_ndarray(format="rgb24", threads=1)
    except TypeError:  # compiled: it has no signature to ask
        return {}
    return {"threads": 1}


def rotation(frame: VideoFrame) -> float:
    """Degrees, counter-clockwise, that a frame is to be turned by; PyAV 14.0 has the matrix only.

    There it holds on to every frame asked, until Python collects cycles.
    """
    if hasattr(frame, "rotation"):
        return float(frame.rotation)
    import math
    import struct

    from av.sidedata.sidedata import Type

    # its stub names the key's type wrongly
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)  # pyright: ignore
    if matrix is None:
        return 0.0
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return 0.0
    return -math.degrees(math.atan2(b / down, a / across))  # FFmpeg's av_display_rotation_get


def places(model: Any) -> list[torch.device]:
    """The devices that a model computes on, the one that takes prompts first.

    Of a model that accelerate has spread they are what its own hooks say.
    """
    hooks = [getattr(module, "_hf_hook", None) for module in model.modules()]
    said = [getattr(hook, "execution_device", None) for hook in hooks]
    found = [torch.device(place) for place in said if place is not None]
    return list(dict.fromkeys(found)) or [model.device]
