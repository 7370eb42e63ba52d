from dataclasses import dataclass
from typing import ClassVar

import torch

from tokenprune import Condenser, ops


@dataclass(frozen=True)
class Still(Condenser, name="still"):
    """Control: a token that stays as it is from frame to frame becomes one, the mean of its run.

    Args:
        alike: cosine with the same cell of the frame before at which a run goes on, above 0, to 1
    """

    alike: float = 0.8

    mixes_frames: ClassVar[bool] = True
    merges: ClassVar[bool] = True

    def __post_init__(self):
        if not 0.0 < self.alike <= 1.0:
            raise ValueError(f"still.alike={self.alike}: write a cosine above 0 and up to 1")

    def condense(self, tokens):
        grid = tokens.dense()  # zeros where a token is missing, which resemble nothing
        goes_on = torch.zeros(grid.shape[:2], dtype=torch.bool, device=grid.device)
        goes_on[1:] = ops.cosine(grid[1:], grid[:-1]) >= self.alike
        begins = ~goes_on[tokens.frame, tokens.slot]

        # runs of a cell are numbered by how many have begun in it so far
        begun = torch.zeros_like(goes_on, dtype=torch.long)
        begun[tokens.frame, tokens.slot] = begins.long()
        run = begun.cumsum(0)[tokens.frame, tokens.slot] * tokens.cells + tokens.slot

        # the first token of a run carries it: its frame and slot, and the row that others go into
        left = tokens[begins]
        row = torch.zeros((tokens.frames + 1) * tokens.cells, dtype=torch.long, device=grid.device)
        row[run[begins]] = torch.arange(len(left), device=grid.device)
        members = row[run]

        total = left.features.new_zeros(left.features.shape, dtype=torch.float32)
        total = total.index_add(0, members, tokens.features.float())
        size = torch.bincount(members, minlength=len(left)).unsqueeze(-1)
        return left.with_features(total / size, members)
