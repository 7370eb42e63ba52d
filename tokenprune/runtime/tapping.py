"""The one seam into transformers: an attention implementation that hands queries and keys, after
RoPE and cache, to a tap and then runs the model's own kernel (sdpa, eager, flash) unchanged.

It takes the place of the model's own for as long as a pass reads attention, and a module without a
tap goes straight on to its kernel.

Axes: `b` batch, `h` query heads, `g` key/value heads, `s` query rows, `t` key rows, `e` head width,
`f` sequences of a packed call and one.
"""

from __future__ import annotations

import copy
import itertools
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface

from tokenprune.errors import StrategyError
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import Tap
from tokenprune.runtime.compiled import attending

PREFIX = "tokenprune"
NAMING = threading.Lock()  # held while a context takes its names
Kernel = Callable[..., tuple[Tensor, Tensor | None]]  # as transformers has it


class Routed(ABC):
    """A tap that also runs the model's kernel in its own way, on the same module."""

    @abstractmethod
    def __call__(self, query: Tensor, key: Tensor, scale: float) -> None: ...

    @abstractmethod
    def routed(self, kernel: Kernel) -> Kernel:
        """What runs in place of `kernel`."""


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


class Reading:
    """Our implementation in the place of the configs' own, as long as any pass reads through it.

    Between such passes no call of attention goes through us. Threads share the configs, so passes
    are counted.
    """

    def __init__(self, configs: Sequence[PreTrainedConfig], names: Sequence[_Name]) -> None:
        self._configs = list(zip(configs, names, strict=True))
        self._lock = threading.RLock()  # a dropped session may end while its thread holds it
        self._passes = 0

    def begin(self) -> None:
        with self._lock:
            self._passes += 1
            if self._passes == 1:
                for config, name in self._configs:
                    if (config._attn_implementation or "eager") == name.base:  # else the user's
                        config._attn_implementation = name

    def end(self) -> None:
        with self._lock:
            self._passes -= 1
            if self._passes == 0:
                self.off()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self.end()

    def off(self) -> None:
        """Puts back what was there; a choice that the user has made meanwhile stays."""
        for config, name in self._configs:
            if config._attn_implementation == name:
                config._attn_implementation = name.base

    def check(self) -> None:
        """Raises StrategyError if another implementation was chosen meanwhile."""
        for config, name in self._configs:
            chosen = config._attn_implementation or "eager"
            if chosen not in (name, name.base):
                raise StrategyError(
                    f"the attention implementation was changed to {chosen!r} inside an attach "
                    "block, which reads attention through its own: call "
                    f"set_attn_implementation({chosen!r}) before attach"
                )


@contextmanager
def tapped(configs: Sequence[PreTrainedConfig], taps: Mapping[nn.Module, Tap]) -> Iterator[Reading]:
    """While open, modules that read `configs` can call their tap in `taps` before attending.

    They do while a `Reading`, which is yielded, is under way; taps are looked up at every call.

    Implementations are registered under a name of this context alone, so two models in one process
    never share one, and are gone afterwards. The name contains the base's: transformers looks for
    "flash" in it.
    """
    bases = [config._attn_implementation or "eager" for config in configs]
    # transformers reads the class-wide mapping of masks directly, so a local entry of the instance
    # would not be seen
    attention, masks = AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping
    with NAMING:
        # the first free number: code that was compiled in one session is found again in the next
        used = {name.split("_")[1] for name in attention if name.startswith(f"{PREFIX}_")}
        number = next(free for free in itertools.count() if str(free) not in used)
        names = [_Name(f"{PREFIX}_{number}_{base}", base) for base in bases]
        for base, name in zip(bases, names, strict=True):
            AttentionInterface.register(name, _with_tap(base, taps))
            if base in masks:
                AttentionMaskInterface.register(name, masks[base])
    reading = Reading(configs, names)
    try:
        yield reading
    finally:
        reading.off()
        for name in names:
            attention.pop(name, None)
            masks.pop(name, None)


@contextmanager
def own_config(module: nn.Module, config: PreTrainedConfig) -> Iterator[list[PreTrainedConfig]]:
    """While open, an attention module that reads `config` reads a copy, for an implementation of
    its own; yields the copy.

    Nothing where the module keeps none.
    """
    if vars(module).get("config") is not config:
        yield []
        return
    own = copy.copy(config)
    vars(module)["config"] = own
    try:
        yield [own]
    finally:
        vars(module)["config"] = config


def is_tapped(config: PreTrainedConfig) -> bool:
    return (config._attn_implementation or "").startswith(PREFIX)


def _with_tap(base: str, taps: Mapping[nn.Module, Tap]) -> Kernel:
    kernel = AttentionInterface._global_mapping.get(base)

    @no_type_check  # compiled where a thread reads while another's step is
    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any = None,  # by this name, or in this place
        **kwargs: Any,
    ):
        # taps are of a pass; a graph is made once, and has what it reads in the cache
        compiling = torch.compiler.is_compiling()
        if compiling:
            attending(module, query, key, attention_mask, kwargs)
        if (tap := None if compiling else taps.get(module)) is not None:
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
