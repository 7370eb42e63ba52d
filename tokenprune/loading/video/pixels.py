"""A decoded frame as RGB, upright: the same colours under every release of PyAV."""

from __future__ import annotations

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from jaxtyping import UInt8
from torch import Tensor

from tokenprune.compat import converting, rotation

# Matrices by their number in a stream (ITU-T H.273). BT.2020 (9, 10) has no name in every PyAV:
# None: the frame's own. All else is BT.601, also what says nothing, whatever its size, as in the
# field's evaluation codes.
_MATRICES = {1: "ITU709", 4: "FCC", 7: "SMPTE240M", 9: None, 10: None}
_BT601 = "ITU601"


class Canvas:
    """`rows` RGB pictures of one size, made once and filled: beside them there is never more than
    one other picture.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._size: tuple[int, int] | None = None  # width and height as decoded
        self._all: np.ndarray | None = None

    def put(self, row: int, frame: VideoFrame) -> None:
        """Pictures of another size are scaled to that of the first one put."""
        if self._size is None:
            self._size = frame.width, frame.height
        picture = np.rot90(_rgb(frame, *self._size), round(rotation(frame) / 90) % 4)
        if self._all is None:
            self._all = np.empty((self._rows, *picture.shape), np.uint8)
        if picture.shape != self._all.shape[1:]:  # turned otherwise halfway
            picture = np.rot90(picture)
        self._all[row] = picture

    def frames(self) -> UInt8[Tensor, "f h w 3"]:
        assert self._all is not None, "a picture was put"
        return torch.from_numpy(self._all)


def _rgb(frame: VideoFrame, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    if frame.format.is_rgb or frame.format.has_palette:
        return frame.to_ndarray(format="rgb24", width=width, height=height, **converting())
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return frame.to_ndarray(
        format="rgb24",
        width=width,
        height=height,
        src_colorspace=_MATRICES.get(int(frame.colorspace), _BT601),
        dst_colorspace=_BT601,
        src_color_range="JPEG" if full else "MPEG",
        # no meaning for RGB, but before PyAV 17 none of this counts unless source and target differ
        dst_color_range="MPEG" if full else "JPEG",
        **converting(),
    )
