"""How fast tower, prefill and decoding could be on a machine: floors, and what a step reads.

A floor is the longer of two times: of the matrix products that cannot be left out, and of the bytes
that have to be read once. A causal kernel may skip what comes later, so floors leave that out,
while `exact` counts it. Norms, rotations, softmax, launches and Python take no time here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedConfig

from tokenprune.adapters import VideoLLM
from tokenprune.bench.machine import Machine
from tokenprune.bench.operations import Exact, Work, cached_row, skipped, step_keys
from tokenprune.flops import Number


class Weights(NamedTuple):
    """Bytes of weights that a pass reads, by part of the model."""

    tower: int
    layers: int  # of the language model, without its embedding, of which a pass reads a few rows
    head: int

    @property
    def step(self) -> int:
        """What a decoding step reads."""
        return self.layers + self.head

    @classmethod
    def of(cls, adapter: VideoLLM) -> Weights:
        """Of a live model, or of an outline in the dtype that it has."""
        language, head = adapter.language_model, adapter.model.get_output_embeddings()
        return cls(
            tower=_bytes(adapter.tower),
            layers=_bytes(language, _shares(adapter)) - _bytes(language.get_input_embeddings()),
            head=0 if head is None else _bytes(head),
        )


def _bytes(module: nn.Module, of_experts: float = 1.0) -> int:
    """Bytes of parameters; of experts a share, which a pass reads at the least."""
    parts = module.named_parameters()
    return round(sum(p.nbytes * (of_experts if ".experts." in name else 1) for name, p in parts))


def _shares(adapter: VideoLLM) -> float:
    """The part of its experts that a token goes through; several tokens may choose the same."""
    text = adapter.text_config
    experts = getattr(text, "num_experts", 0)
    return text.num_experts_per_tok / experts if experts else 1.0


class Step(NamedTuple):
    """Bytes that a decoding step of a whole batch reads, mean over steps."""

    weights: int
    cache: Number

    @property
    def share(self) -> float:
        """Of the cache: pruning it while decoding can save no more of a step."""
        return self.cache / (self.weights + self.cache)


def step(config: PreTrainedConfig, work: Work, batch: int, weights: Weights, itemsize: int) -> Step:
    """`itemsize` is that of a number in the cache, in bytes."""
    rows = sum(step_keys(config, work))
    return Step(weights.step, batch * rows * cached_row(config) * itemsize)


@dataclass(frozen=True)
class Limits:
    """What a model on a machine cannot fall below.

    Args:
        machine: the rates of the device; where a model is spread over several, of its first one
        weights: of the model
        batch: samples in a pass
        itemsize: bytes of a number in the cache
    """

    machine: Machine
    weights: Weights
    batch: int
    itemsize: int

    @classmethod
    def of(cls, adapter: VideoLLM, machine: Machine, batch: int) -> Limits:
        return cls(machine, Weights.of(adapter), batch, adapter.model.dtype.itemsize)

    def figures(
        self, config: PreTrainedConfig, work: Work, counted: Exact, took: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Floors of a batch in milliseconds, and how many times longer each part took.

        The prefill counts with strategy and probe, as beside the oracle: its floor is that of the
        rows that were kept. None where the part did not run.
        """
        read = step(config, work, self.batch, self.weights, self.itemsize)
        floors = {
            "vision": self._vision(counted) if work.images else None,
            "prefill": self._prefill(counted, skipped(config, work)),
            "decode": self._decode(counted, read, work.generated),
        }
        spent = {
            "vision": took["vision_ms"],
            "prefill": took["prefill_ms"] + took["strategy_ms"] + took["probe_ms"],
            "decode": took["decode_ms_per_token"],
        }
        times = {f"{part}_floor_ms": floor for part, floor in floors.items()}
        over = {
            f"{part}_over_floor": spent[part] / floor if floor else None
            for part, floor in floors.items()
        }
        return {
            **times,
            **over,
            "decode_weight_bytes": read.weights,
            "decode_cache_bytes": round(read.cache),
            "decode_cache_share": read.share,
        }

    def _vision(self, counted: Exact) -> float:
        """Tower and projector."""
        multiplied = self.batch * (counted.tower + counted.projector)
        return self.machine.floor_ms(self.weights.tower, multiplied)

    def _prefill(self, counted: Exact, skipped: Number) -> float:
        """The language model without its head, which a clock around it does not see."""
        multiplied = self.batch * (counted.prefill - skipped)
        return self.machine.floor_ms(self.weights.layers, multiplied)

    def _decode(self, counted: Exact, read: Step, generated: int) -> float:
        """One step of the whole batch, the head included."""
        head = counted.lm_head / generated
        multiplied = self.batch * (counted.decode / (generated - 1) + head)
        return self.machine.floor_ms(read.weights + read.cache, multiplied)
