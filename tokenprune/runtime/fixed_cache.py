"""The layers of a static cache that a compressed prompt has filled, for compiled decoding steps.

`generate` makes a static cache for the uncompressed prompt, of one length for all layers. Each of
our layers is as long as the rows that reach it and the room that the caller's layer had behind its
prompt (`max_new_tokens`), so that transformers' own compiled step reads the rows that were kept and
no others.

Every layer ends with the same room. A step's mask of the first layers is therefore, but for its
first columns, that of the layers above; padding of a ragged batch is taken out of it.

Axes: `b` samples, `g` key/value heads, `n` new rows, `l` slots of a layer, `m` rows, `e` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, StaticLayer

from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime.cache import Guarded, chosen
from tokenprune.runtime.compiled_steps import CompiledSteps
from tokenprune.runtime.prompt_state import PromptState


class FixedLayer(Guarded, StaticLayer):
    """A static layer that takes its length from the first rows that it gets, those of the prompt.

    To attention it hands these as they came, and in every later pass all of its slots, which the
    mask tells apart.

    Args:
        length: of the caller's layer
        sent: columns of the uncompressed prompt
    """

    # what a compiled step reads; what is None or false costs it nothing
    real: Bool[Tensor, "b l"] | None = None  # slots without padding; None where there is none
    # in the first layer how far positions are behind the caller's, in others behind the first's
    shift: Int[Tensor, "b 1"] | None = None
    above = False  # whether a prefill stage has dropped rows below this layer
    ended = False  # the session that fills the layer is over

    def __init__(self, length: int, sent: int = 0) -> None:
        super().__init__(max_cache_len=length)
        self._length, self._room = length, length - sent
        self._prompt = 0  # its rows
        self.filling = True  # until the prompt has gone through all layers

    @property
    def is_compileable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Not while a prompt fills it, whose rows the fastest kernels take without a mask."""
        return not self.filling

    @property
    def rows(self) -> int:
        """Rows of the prompt; how many have come later is known to the device only."""
        return self._prompt

    @property
    def holds(self) -> bool:
        return self.is_initialized

    @no_type_check
    def get_seq_length(self) -> Any:
        """Columns seen, those that are gone included: a tensor, as that of a stock static layer."""
        return self.cumulative_length + self.gone if self.is_initialized else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        if not self.is_initialized and self.filling:
            return query_length, 0
        return self.max_cache_len, self.gone

    @no_type_check  # checked annotations cannot be compiled
    def update(
        self,
        key_states: Float[Tensor, "b g n e"],
        value_states: Float[Tensor, "b g n e"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        if self.ended:  # also where a graph that was compiled before the end is made anew
            self.led = False
            self.check_led()
        if self.is_initialized or not self.filling:
            return super().update(key_states, value_states, *args, **kwargs)
        self.check_led()
        self._fill(key_states, value_states)
        return key_states, value_states

    @property
    @no_type_check
    def slots(self) -> int:
        """How many attention gets."""
        return self.max_cache_len

    def keep(self, columns: Int[Tensor, "*b m"]) -> None:
        """Forgets all rows but `columns`, before any has come after the prompt."""
        assert self.keys is not None and self.values is not None
        known = (part[:, :, : self._prompt] for part in (self.keys, self.values))
        self._fill(*(chosen(part, columns) for part in known))

    def _fill(self, keys: Float[Tensor, "b g n e"], values: Float[Tensor, "b g n e"]) -> None:
        self._prompt = keys.shape[2]
        self.max_cache_len = self._prompt + self._room
        self.lazy_initialization(keys, values)
        assert self.keys is not None and self.values is not None
        self.keys[:, :, : self._prompt] = keys
        self.values[:, :, : self._prompt] = values
        self.cumulative_length.fill_(self._prompt)

    def settle(self, gone: int, above: bool, real: Tensor | None, shift: Tensor | None) -> None:
        """The prompt is through: what a step has to know of it, see the attributes above."""
        self.filling, self.gone, self.above = False, gone, above
        self.real, self.shift = real, shift

    def reset(self) -> None:
        """Empty, and as long as the caller's layer was."""
        self.max_cache_len, self.is_initialized = self._length, False
        self.keys = self.values = self.real = self.shift = None
        self._prompt, self.above, self.filling, self.ended = 0, False, False, False
        super().reset()


def fixed_layers(cache: Cache, sent: int, layer: type[FixedLayer] = FixedLayer) -> list[Any]:
    """Layers for a prompt of `sent` columns, in place of a caller's empty static ones."""
    lengths = [layer.get_max_length() for layer in cache.layers]
    if min(lengths) < sent:
        raise UnsupportedGenerationError(
            f"the static cache has {min(lengths)} slots and the prompt {sent} columns before "
            "compression: make max_cache_len at least that many and the new tokens, what is not "
            "needed is not allocated"
        )
    return [layer(length, sent) for length in lengths]


def settle(layers: Sequence[Any], prompt: PromptState) -> None:
    """After a prompt: masks and positions that its compiled steps will need, one per layout."""
    made: dict[tuple[int, bool, torch.device], tuple[Tensor | None, Tensor | None]] = {}
    for number, layer in enumerate(layers):
        if not isinstance(layer, FixedLayer):
            continue
        layout, device = prompt.at(number), layer.device
        key = (layout, number == 0, device)
        if key not in made:
            real = prompt.mask(layout)
            if real is not None:
                real = pad(real, (0, layer.max_cache_len - layer.rows), value=True)
            shift = prompt.lag(layout) if number else prompt.shift
            lag = None if shift is None else shift.on(device).long()
            made[key] = _fixed(real, device), _fixed(lag, device)
        real, shift = made[key]
        layer.settle(prompt.gone(layout), layout > 0, real, shift)


def count(cache: Cache | None, prompt: PromptState) -> None:
    """Lets reports of a prompt that has filled a static cache count its steps by that cache."""
    if cache is not None and (first := _counting(cache)) is not None:
        prompt.fixed = True
        for sample in filter(None, prompt.report.samples):
            width, seen = prompt.layouts[0].width, sample.layers[-1]
            if sample.compiled is None:  # of a decode stage it is known already
                sample.compiled = CompiledSteps(first.cumulative_length, width, seen)


def _counting(cache: Cache) -> StaticLayer | None:
    """A static layer that counts what comes in; one with a sliding window does it otherwise."""
    plain = (layer for layer in cache.layers if isinstance(layer, StaticLayer))
    return next(
        (one for one in plain if type(one) is StaticLayer or isinstance(one, FixedLayer)), None
    )


def end(cache: Cache) -> None:
    """The session is over: what compiled code still holds of this cache does not grow any more."""
    for layer in cache.layers:
        if isinstance(layer, FixedLayer) and layer.holds:
            layer.ended = True


def narrowed(cache: Cache | None) -> list[int]:
    """The layers of a static cache that a prefill stage has taken rows from."""
    layers = [] if cache is None else cache.layers
    return [n for n, own in enumerate(layers) if isinstance(own, FixedLayer) and own.above]


def flat(mask: Any, cache: Cache | None, columns: int) -> Any:
    """The 2-D mask of a pass that `generate` has made a 4-D one for, as it does for static caches.

    A mask of another kind, or for another cache, is returned as it is. Of a pass of several columns
    behind a prompt only these are told: waits for the device.
    """
    if cache is None or not cache.layers or not isinstance(first := cache.layers[0], StaticLayer):
        return mask
    if isinstance(mask, Mapping):  # by kind of layer, all of which see every row
        mask = next(iter(mask.values()))
    if not isinstance(mask, Tensor) or mask.ndim != 4:
        return mask
    if not first.is_initialized:
        begin = 0
    elif columns == 1:  # an answer's next word
        return None
    else:
        begin = int(first.cumulative_length)
    row = mask[:, 0, -1, begin : begin + columns]
    return row if row.dtype == torch.bool else row == 0


def catch_up(cache: Cache, prompt: PromptState, columns: int) -> None:
    """Before a pass that compiled steps may have gone before: takes down what they have added.

    Waits for the device. Raises UnsupportedGenerationError where `columns` more do not fit.
    """
    if (first := _counting(cache)) is None:
        return
    filled = int(first.cumulative_length)
    if (left := first.max_cache_len - filled) < columns:
        raise UnsupportedGenerationError(
            f"the static cache has room for {left} more tokens and gets {columns}: pass a "
            f"StaticCache whose max_cache_len is {columns - left} larger, or leave out the "
            "cache for the default dynamic one"
        )
    known = prompt.layouts[0].width + prompt.later
    if steps := filled - known:
        prompt.extend(steps, None)
    for sample in filter(None, prompt.report.samples):
        sample.catch_up()
        if columns > 1:  # a turn is no step
            assert sample.compiled is not None
            sample.compiled.others = filled - len(sample.steps) + columns


def _fixed(value: Tensor | None, device: torch.device) -> Tensor | None:
    """A tensor that graphs of an accelerator may read where it lies, without a copy."""
    if value is None:
        return None
    value = value.to(device)
    torch._dynamo.mark_static_address(value)
    return value
