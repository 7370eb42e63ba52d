"""Sizes of published models, without loading any: `tokenprune/papers/models.yaml`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tokenprune.errors import ConfigError
from tokenprune.flops import Decoder
from tokenprune.options import load_file, typed
from tokenprune.reproduce.files import home


@dataclass(frozen=True)
class Model:
    """A published model.

    Args:
        layers, width, ffn, kv_width: of its language model, see `flops.Decoder`
        gigabytes: of its 16-bit weights on disk
        cells: visual tokens per frame; 0 where that depends on the video
        shape: the name of that size in `tokenprune bench`, if it has one
    """

    layers: int
    width: int
    ffn: int
    kv_width: int
    gigabytes: float
    cells: int = 0
    shape: str = ""

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.layers, self.width, self.ffn, self.kv_width)


@functools.cache
def models() -> dict[str, Model]:
    """All that sizes are known of, by hub id."""
    found = load_file(str(home() / "models.yaml"))
    return {name: typed(name, sizes, Model) for name, sizes in found.items()}


def model(hub_id: str) -> Model:
    """Raises ConfigError for one whose sizes are not known."""
    try:
        return models()[hub_id]
    except KeyError:
        raise ConfigError(
            f"the sizes of {hub_id} are not in tokenprune/papers/models.yaml: add them there"
        ) from None
