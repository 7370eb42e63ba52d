"""The frames of a sample as one small JPEG: thumbnails in rows, made by PyAV's encoder."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import numpy as np

from tokenprune.sheets.sheet import Picture

HEIGHT = 64  # pixels of a thumbnail
ACROSS = 32  # thumbnails in a row: browsers draw no picture that is too wide
_COARSEST = 31  # of the encoder's quantisers; 2 is its finest
_FINE = 5
_PIXELS = 1 << 20  # that are made smaller in one call


@dataclass(frozen=True)
class Strip:
    """Thumbnails of a sample's frames, which several sheets may share.

    Args:
        uri: the JPEG inside a data URI
        number: of frames
        ratio: width of a thumbnail by its height
    """

    uri: str
    number: int
    ratio: float

    @property
    def style(self) -> str:
        """What an element around sheets has in `style=` so that they find these frames."""
        return f"--frames:url({self.uri})"


def strip(frames: Sequence[Picture], height: int = HEIGHT, most: int | None = None) -> Strip:
    """Thumbnails of frames; see `jpeg`."""
    tall, wide = _tile(frames, height)
    text = base64.b64encode(jpeg(frames, height, most)).decode("ascii")
    return Strip(f"data:image/jpeg;base64,{text}", len(frames), wide / tall)


def jpeg(frames: Sequence[Picture], height: int = HEIGHT, most: int | None = None) -> bytes:
    """The frames as one JPEG, thumbnails of `height` in rows of up to 32.

    Frames of another shape than the first are fitted into a thumbnail of its shape. With `most` the
    picture is made coarser, and if need be smaller, until it has at most so many bytes or nothing
    would be seen any more. Raises ValueError without frames.
    """
    if not len(frames):
        raise ValueError("no frames, no picture of them")
    quantiser = _FINE
    sheet = _laid_out(frames, height)
    made = _encoded(sheet, quantiser)
    while most is not None and len(made) > most:
        if quantiser < _COARSEST // 2:
            quantiser = math.ceil(quantiser * 1.5)
        elif height > HEIGHT // 2:
            height = height * 3 // 4
            sheet = _laid_out(frames, height)
        else:
            break
        made = _encoded(sheet, quantiser)
    return made


def rows_of(number: int) -> int:
    """In how many rows so many frames are laid out."""
    return -(-number // ACROSS)


def inside(picture: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width at which a picture of some (height, width) stands in a tile.

    It keeps its shape, up to a twentieth: rounding leaves no thin margins.
    """
    scale = min(tile[0] / picture[0], tile[1] / picture[1])
    found = []
    for side, room in zip(picture, tile, strict=True):
        fitted = max(1, round(side * scale))
        found.append(room if fitted > 0.95 * room else fitted)
    tall, wide = found
    return (tile[0] - tall) // 2, (tile[1] - wide) // 2, tall, wide


def _tile(frames: Sequence[Picture], height: int) -> tuple[int, int]:
    """Height and width of a thumbnail: even, since colours are stored at half the size."""
    tall, wide = frames[0].shape[:2]
    ratio = min(4.0, max(0.25, wide / tall))
    return 2 * max(1, round(height / 2)), 2 * max(1, round(height * ratio / 2))


def _laid_out(frames: Sequence[Picture], height: int) -> np.ndarray:
    """Thumbnails in rows: uint8 [h w 3]."""
    tall, wide = tile = _tile(frames, height)
    across, rows = min(ACROSS, len(frames)), rows_of(len(frames))
    tiles = np.zeros((rows * across, tall, wide, 3), dtype=np.uint8)
    for place, count in _batches(frames):
        some = frames[place : place + count]
        top, left, high, broad = inside(some[0].shape[:2], tile)
        small = _resized(some, high, broad)
        tiles[place : place + count, top : top + high, left : left + broad] = small
    return tiles.reshape(rows, across, tall, wide, 3).swapaxes(1, 2).reshape(rows * tall, -1, 3)


def _batches(frames: Sequence[Picture]) -> Iterator[tuple[int, int]]:
    """Where frames of one shape begin, and how many go into one call: as many as are small."""
    place = 0
    for shape, same in groupby(frame.shape[:2] for frame in frames):
        left = len(list(same))
        most = max(1, _PIXELS // (shape[0] * shape[1]))
        while left:
            count = min(most, left)
            yield place, count
            place, left = place + count, left - count


def _resized(frames: Sequence[Picture], height: int, width: int) -> np.ndarray:
    """Frames of one shape, by means of areas, so that nothing that is small gets lost."""
    tall, wide = frames[0].shape[:2]
    if (tall, wide) == (height, width):
        return np.stack(frames)
    import av

    # one below the other: edges of frames are edges of thumbnails
    column = np.ascontiguousarray(np.concatenate(frames))
    whole = av.VideoFrame.from_ndarray(column, format="rgb24")
    small = whole.reformat(width, height * len(frames), "rgb24", interpolation="AREA")
    return small.to_ndarray().reshape(len(frames), height, width, 3)


def _encoded(picture: np.ndarray, quantiser: int) -> bytes:
    """A JPEG; a larger quantiser makes it coarser."""
    import av

    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
