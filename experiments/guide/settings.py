"""Which guides are compared: who reads, how coarse, and which of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tokenprune import registry
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategy import Pipeline

HOST = "visionzip"  # whose budget is handed out
SELF = "self"  # the model that answers
POOLS = (1, 2)


class Setting(NamedTuple):
    """One guide of DyToK."""

    guide: str  # SELF, or the assistant's name
    pool: int
    layers: tuple[int, int] | None  # None: the paper's, the last third

    def read(self, depth: int) -> range:
        """The layers that are read of a guide with so many."""
        return DyToK(self.layers).read(depth)

    @property
    def where(self) -> str:
        return "last third" if self.layers is None else f"layer {self.layers[1]}"

    @property
    def label(self) -> str:
        return f"{self.guide}, pool {self.pool}, {self.where}"

    def pipeline(self, keep: float) -> Pipeline:
        """With its host at the share `keep` of the tokens."""
        own = {"dytok.pool": self.pool, "dytok.layers": self.layers}
        return registry.build(f"{HOST}+dytok", {f"{HOST}.keep": keep, **own})


PAPER = Setting(SELF, 1, None)


def settings(depths: Mapping[str, int]) -> Iterator[Setting]:
    """Of guides with so many layers: each pool, with the last third and with single layers."""
    for guide, depth in depths.items():
        for pool in POOLS:
            third = Setting(guide, pool, None)
            yield third
            for layer in range(depth):
                if third.read(depth) != range(layer, layer + 1):
                    yield Setting(guide, pool, (layer, layer))
