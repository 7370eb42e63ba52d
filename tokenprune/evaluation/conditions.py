"""How samples go through the model, whoever makes the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Loop:
    """How samples go through the model; none of it but `images` changes an answer."""

    batch_size: int = 1
    alike: bool = False  # samples of a category together: a batch ends with its longest answer
    limit: int | None = None
    max_new_tokens: int = 48
    seed: int = 0
    workers: int = 0  # processes that decode videos; 0: this one
    stop_on_error: bool = False
    images: bool = False  # whether images beside videos are compressed, too
    trainer: Mapping[str, Any] = field(default_factory=dict)  # Lightning's own options


PLAIN = Loop()
