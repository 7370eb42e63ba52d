"""The one seam into transformers: reads queries and keys after RoPE and cache, whatever kernel the
model runs.

A tap is a function of one attention module's queries and keys. It computes only the rows that
are needed, in fp32; the model's own implementation (sdpa, eager, flash) then runs unchanged, and no
attention map is ever materialised.

Axes: `b` batch, `h` query heads, `g` key/value heads, `s` query rows, `r` some of them, `t` key
rows, `e` head width.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface

from tokenprune.errors import StrategyError, UnsupportedGenerationError
from tokenprune.precision import exact, full_precision

Tap = Callable[[Tensor, Tensor, float], None]  # queries [b h s e], keys [b g t e], softmax scale
Kernel = Callable[..., tuple[Tensor, Tensor | None]]  # as transformers has it


class Routed(ABC):
    """A tap that also runs the model's kernel in its own way, on the same module."""

    @abstractmethod
    def __call__(self, query: Tensor, key: Tensor, scale: float) -> None: ...

    @abstractmethod
    def routed(self, kernel: Kernel) -> Kernel:
        """What runs in place of `kernel`."""


PREFIX = "tokenprune"
# attention weights that `received` holds at once
BLOCK_OF_CPU = 1 << 19  # what a core's cache holds
BLOCK_OF_ACCELERATOR = 1 << 24  # enough to keep it busy


class Taps(MutableMapping[nn.Module, Tap]):
    """Taps by attention module, of the current thread."""

    def __init__(self) -> None:
        self._local = _Taps()

    def __getitem__(self, module: nn.Module) -> Tap:
        return self._local.taps[module]

    def __setitem__(self, module: nn.Module, tap: Tap) -> None:
        self._local.taps[module] = tap

    def __delitem__(self, module: nn.Module) -> None:
        del self._local.taps[module]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._local.taps)

    def __len__(self) -> int:
        return len(self._local.taps)

    def get(self, key: nn.Module, default: Any = None) -> Any:
        """Without an exception on the way: every layer of every step asks, mostly in vain."""
        return self._local.taps.get(key, default)


class _Taps(threading.local):
    def __init__(self) -> None:
        self.taps: dict[nn.Module, Tap] = {}


class _Name(str):
    """Our name in a live config.

    Copies of the config outlive us, so they get the name of the model's own kernel.
    """

    base: str

    def __new__(cls, name: str, base: str) -> _Name:
        made = super().__new__(cls, name)
        made.base = base
        return made

    def __deepcopy__(self, memo: Any) -> str:
        return self.base

    def __reduce_ex__(self, protocol: Any) -> Any:
        return str, (self.base,)


@contextmanager
def tapped(
    configs: Sequence[PreTrainedConfig], taps: Mapping[nn.Module, Tap]
) -> Iterator[Callable[[], None]]:
    """While open, modules that read `configs` call their tap in `taps` before attending.

    Taps are looked up at every call. Yields a check, which raises StrategyError if another
    implementation was chosen meanwhile.

    Implementations are registered under a name of this context alone, so two models in one process
    never share one, and are gone afterwards. The name contains the base's: transformers looks for
    "flash" in it.
    """
    bases = [config._attn_implementation or "eager" for config in configs]
    names = [_Name(f"{PREFIX}_{id(taps):x}_{base}", base) for base in bases]
    # transformers reads the class-wide mapping of masks directly, so a local entry of the instance
    # would not be seen
    attention, masks = AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping

    def check() -> None:
        for config, name in zip(configs, names, strict=True):
            if (chosen := config._attn_implementation) != name:
                raise StrategyError(
                    f"the attention implementation was changed to {chosen!r} inside an attach "
                    "block, which reads attention through its own: call "
                    f"set_attn_implementation({chosen!r}) before attach"
                )

    try:
        for config, base, name in zip(configs, bases, names, strict=True):
            AttentionInterface.register(name, _with_tap(base, taps))
            if base in masks:
                AttentionMaskInterface.register(name, masks[base])
            config._attn_implementation = name
        yield check
    finally:
        for config, base, name in zip(configs, bases, names, strict=True):
            if config._attn_implementation == name:  # else the user's own choice, which stays
                config._attn_implementation = base
        for name in names:
            attention.pop(name, None)
            masks.pop(name, None)


def is_tapped(config: PreTrainedConfig) -> bool:
    return (config._attn_implementation or "").startswith(PREFIX)


def _with_tap(
    base: str, taps: Mapping[nn.Module, Tap]
) -> Callable[..., tuple[Tensor, Tensor | None]]:
    kernel = AttentionInterface._global_mapping.get(base)

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any = None,  # by this name, or in this place
        **kwargs: Any,
    ):
        if (tap := taps.get(module)) is not None:
            # scores rank and weigh: they have no gradient, so that a checkpointed layer can be run
            # again without them
            with torch.no_grad(), full_precision():
                for queries, keys in _apart(query, key, kwargs.get("cu_seq_lens_q")):
                    tap(queries, keys, kwargs["scaling"])
        # eager attention is not in the registry: every modeling file defines its own
        run = kernel or sys.modules[type(module).__module__].eager_attention_forward
        if isinstance(tap, Routed):
            run = tap.routed(run)
        return run(module, query, key, value, attention_mask, **kwargs)

    return attend


def _apart(
    query: Float[Tensor, "b h s e"], key: Float[Tensor, "b g t e"], ends: Int[Tensor, "f"] | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Queries and keys of each sequence of a packed call, as towers make it for flash attention."""
    if ends is None:
        yield query, key
        return
    lengths = ends.diff().tolist()
    yield from zip(query.split(lengths, dim=2), key.split(lengths, dim=2), strict=True)


@exact
def last_row(
    query: Float[Tensor, "b h e"],
    key: Float[Tensor, "b g t e"],
    scale: float,
    valid: Bool[Tensor, "b t"] | None,
) -> Float[Tensor, "b t"]:
    """Attention of one query per sample over all `valid` keys: fp32, mean over query heads.

    Equals that row of the causally masked softmax when the query is the last one.
    """
    grouped = query.float().unflatten(1, (key.shape[1], -1))
    scores = grouped @ key.float().mT * scale
    if valid is not None:
        # layers may live on different devices; layouts stay on the first
        scores = scores.masked_fill(~valid[:, None, None].to(key.device), -torch.inf)
    return scores.softmax(dim=-1).mean(dim=(1, 2))


@exact
@torch.no_grad()  # it ranks, and sums are written in place
def received(
    query: Float[Tensor, "b h s e"], key: Float[Tensor, "b h t e"], scale: float
) -> Float[Tensor, "b t"]:
    """Attention each key receives, mean over heads and query rows, in fp32.

    Only the column sums of a block of samples, heads and rows outlive it, so that memory does not
    grow with the square of the sequence.
    """
    (samples, heads, rows, _), width = query.shape, key.shape[2]
    most = BLOCK_OF_CPU if query.device.type == "cpu" else BLOCK_OF_ACCELERATOR
    together = max(1, most // (rows * width))  # whole heads per block
    step = min(rows, max(1, most // width))
    columns = query.new_zeros(samples * heads, width, dtype=torch.float32)
    split = (part.split(together) for part in (query.flatten(0, 1), key.flatten(0, 1), columns))
    for some, keys, sums in zip(*split, strict=True):
        turned = keys.float().mT * scale
        for block in some.split(step, dim=1):
            sums += torch.softmax(block.float() @ turned, dim=-1).sum(1)
    return columns.unflatten(0, (samples, heads)).mean(1) / rows


@exact
def mean_query(
    query: Float[Tensor, "b h s e"], key: Float[Tensor, "b h t e"]
) -> Float[Tensor, "b t"]:
    """Softmax of the mean query over all keys, one head over the full width.

    PruMerge's attention, and AIM's stand-in for that of a CLS token.
    """
    mean, flat = query.float().mean(2).flatten(1), side_by_side(key).float()
    scores = (flat @ mean.unsqueeze(-1)).squeeze(-1) * flat.shape[-1] ** -0.5
    return scores.softmax(-1)


@exact
def mean_query_of_heads(
    query: Float[Tensor, "b h s e"], key: Float[Tensor, "b h t e"], scale: float
) -> Float[Tensor, "b t"]:
    """Softmax of the mean query over all keys in each head, mean over heads (FastVID)."""
    return last_row(query.float().mean(2), key, scale, None)


def side_by_side(key: Float[Tensor, "b h s e"]) -> Float[Tensor, "b s k"]:
    """Keys of all heads as one vector."""
    return key.transpose(1, 2).flatten(2)


def rows_at(states: Float[Tensor, "b h s e"], row: Int[Tensor, "b"]) -> Float[Tensor, "b h e"]:
    """One row of every sample."""
    return states[torch.arange(len(states), device=states.device), :, row.to(states.device)]


def columns_at(
    states: Float[Tensor, "b h s e"], columns: Int[Tensor, "b r"]
) -> Float[Tensor, "b h r e"]:
    """Some rows of every sample."""
    index = columns.to(states.device)[:, None, :, None]
    return states.take_along_dim(index, dim=2)


def flat_mask(mask: Any) -> Tensor | None:
    """The 2-D mask that `mask` is, or None; UnsupportedGenerationError for any other kind."""
    if mask is None or (isinstance(mask, Tensor) and mask.ndim == 2):
        return mask
    raise UnsupportedGenerationError(
        "token selection needs the 2-D attention mask of the prompt, or none: not a 4-D one"
    )
