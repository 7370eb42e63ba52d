"""Padded, ragged batches: which columns hold which sample's text and visual rows.

Axes: `b` samples, `s` padded columns, `m` padded columns after packing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune.errors import LayoutError
from tokenprune.tokens import TEXT


@dataclass(frozen=True)
class Layout:
    """The rows that a run of LLM layers sees; a prefill stage begins a new one."""

    valid: Bool[Tensor, "b s"]  # False on padding
    frame: Int[Tensor, "b s"]  # TEXT on text and padding
    slot: Int[Tensor, "b s"]  # cell of the uncompressed grid, of visual rows
    row: Int[Tensor, "b s"]  # place in the sample's own sequence that entered layer 0
    frames: int
    cells: int

    @property
    def mask(self) -> Bool[Tensor, "b s"] | None:
        """The 2-D attention mask, None where nothing is padded."""
        return visible_mask(self.valid)

    @property
    def last(self) -> Int[Tensor, "b"]:
        """The column of every sample's last row."""
        columns = torch.arange(self.valid.shape[1], device=self.valid.device)
        return torch.where(self.valid, columns, -1).max(dim=1).values

    @property
    def visual(self) -> Bool[Tensor, "b s"]:
        return self.frame != TEXT

    def counts(self, sample: int) -> Int[Tensor, "f"]:
        """Visual rows per frame of one sample."""
        frame = self.frame[sample]
        return torch.bincount(frame[frame != TEXT], minlength=self.frames)

    def keep(self, kept: Bool[Tensor, "b s"]) -> tuple[Layout, Int[Tensor, "b m"]]:
        """The layout of the surviving rows, and the columns they come from.

        They are packed to the side they were packed to.
        """
        columns, valid = pack(kept & self.valid, right=self._ends_padded())
        chosen = {name: getattr(self, name).gather(1, columns) for name in ("frame", "slot", "row")}
        chosen["frame"] = chosen["frame"].masked_fill(~valid, TEXT)
        return replace(self, valid=valid, **chosen), columns

    def _ends_padded(self) -> bool:
        return not bool(self.valid[:, -1].all())


def pack(kept: Bool[Tensor, "b s"], right: bool) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Columns that bring the kept rows of every sample together, in order, and which are real.

    Padding goes to the left, where `generate` wants it, or to the `right` if the batch came padded
    there.
    """
    width = int(kept.sum(1).max())
    if right:
        order = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, :width]
    else:
        order = kept.to(torch.int8).argsort(dim=1, stable=True)[:, kept.shape[1] - width :]
    return order, kept.gather(1, order)


def prompt_layout(
    placeholder: Bool[Tensor, "b s"], mask: Bool[Tensor, "b s"], cells: int, separators: int
) -> tuple[Layout, list[int]]:
    """The layout of an uncompressed prompt, and the samples that hold a video.

    Raises LayoutError for several videos in one sample, and for placeholders that are not a whole
    number of frames.
    """
    run = placeholder & mask
    starts = run & ~torch.cat([torch.zeros_like(run[:, :1]), run[:, :-1]], dim=1)
    if bool((starts.sum(1) > 1).any()):
        raise LayoutError(
            "a sample holds several videos: compress one video per sample, or concatenate their "
            "frames"
        )
    lengths = run.sum(1)
    with_video = lengths.nonzero().squeeze(-1).tolist()
    visual = (lengths[with_video] - separators).unique()
    if len(visual) != 1 or int(visual) % cells or int(visual) < cells:
        found = sorted(set(lengths[with_video].tolist()))
        raise LayoutError(
            f"{found} video placeholders are not a whole number of frames of {cells} tokens plus "
            f"{separators}: encode the prompt with the checkpoint's own processor, without chunked "
            "prefill"
        )
    offset = run.cumsum(1) - 1
    inside = run & (offset < visual)
    return Layout(
        valid=mask,
        frame=torch.where(inside, offset // cells, TEXT),
        slot=torch.where(inside, offset % cells, 0),
        row=(mask.cumsum(1) - 1).clamp(min=0),
        frames=int(visual) // cells,
        cells=cells,
    ), with_video


def visible_mask(valid: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"] | None:
    """None where everything is visible, which the fastest kernels want."""
    return None if bool(valid.all()) else valid


def take(states: Tensor, columns: Int[Tensor, "b m"]) -> Tensor:
    """Columns of every sample, from `[b or 1, s, ...]`; whole rows are copied, once."""
    columns = columns.to(states.device)
    samples = torch.arange(len(columns), device=states.device).unsqueeze(-1)
    return states.expand(len(columns), *states.shape[1:])[samples, columns]
