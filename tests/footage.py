"""Videos that are the same everywhere: plain arithmetic, no generator of random numbers.

Golden pixels are made of them, where tokenprune need not be installed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def footage(frames: int, height: int, width: int) -> Tensor:
    """uint8 [f h w 3]: a slow gradient that moves, under noise."""
    number = np.arange(frames * height * width * 3, dtype=np.uint64)
    noise = ((number * np.uint64(2654435761)) >> np.uint64(13)) & np.uint64(63)
    frame, row, column, colour = np.unravel_index(
        number.astype(np.int64), (frames, height, width, 3)
    )
    slope = (row * 3 + column * 2 + frame * 17 + colour * 40) % 192
    levels = (slope + noise.astype(np.int64)).astype(np.uint8)
    return torch.from_numpy(levels.reshape(frames, height, width, 3))
