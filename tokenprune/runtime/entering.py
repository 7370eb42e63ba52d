"""What goes with the rows of a shorter prompt into the language model: positions, mask, pictures.

Axes: `b` samples, `s` columns of a prompt, `m` those that are left.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.adapters import VideoLLM
from tokenprune.adapters.language import LanguageRows
from tokenprune.runtime.layout import Layout
from tokenprune.runtime.shorter import Shorter
from tokenprune.tokens import TEXT


def entering(
    adapter: VideoLLM, given: dict[str, Any], before: Layout, left: Shorter, anew: bool
) -> dict[str, Any]:
    """Arguments of the language model for what is left, its positions counted `anew` or not."""
    after, positions = left.layout, given.get("position_ids")
    if not anew and positions is None:  # the model would count what is left
        # padding counts, too, as it does for the model
        every = torch.arange(before.width, device=before.device).expand(before.samples, -1)
        given = {**given, "position_ids": every}
    given = {**given, "inputs_embeds": left.embeds}
    if not anew or type(adapter).narrow is not LanguageRows.narrow:  # else only positions are bound
        given |= adapter.narrow(given, left.columns.on(before.device), after.valid)
    if left.removed is not None:
        # without any mask transformers takes gaps in positions along one axis for several sequences
        gaps = not anew and adapter.positions == "contiguous"
        given["attention_mask"] = after.valid if gaps else after.mask
    if anew and left.removed is not None:
        # without padding they are what the model counts by itself
        given["position_ids"] = after.row if after.padded else None
    elif anew:
        given["position_ids"] = positions
    return given


def kept_blocks(
    blocks: Int[Tensor, "b s"] | None, columns: Int[Tensor, "b m"], layout: Layout
) -> Int[Tensor, "b m"] | None:
    """Pictures of the rows that are left, as they were numbered before."""
    if blocks is None:
        return None
    left = blocks.gather(1, columns.to(blocks.device))
    return left.masked_fill(~layout.valid.to(blocks.device), TEXT) if layout.padded else left
