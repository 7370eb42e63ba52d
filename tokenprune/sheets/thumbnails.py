"""The frames of a sample as one small JPEG: thumbnails in columns, made by PyAV's encoder."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from tokenprune.sheets.sheet import Picture

if TYPE_CHECKING:
    from av import VideoFrame

HEIGHT = 64  # pixels of a thumbnail
DOWN = 32  # thumbnails in a column: browsers draw no picture that is too tall
_COARSEST = 20  # of the encoder's quantisers that still shows something; 2 is its finest
_FINE = 5
_KIND = "yuvj420p"  # what the encoder takes


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
    text = base64.b64encode(jpeg(frames, height, most)).decode("ascii")
    tall, wide = _tile(frames, height)
    return Strip(f"data:image/jpeg;base64,{text}", len(frames), wide / tall)


def jpeg(frames: Sequence[Picture], height: int = HEIGHT, most: int | None = None) -> bytes:
    """The frames as one JPEG, thumbnails of `height` in columns of up to 32.

    Frames of another shape than the first are fitted into a thumbnail of its shape. With `most` the
    picture is made coarser, and if need be smaller, until it has at most so many bytes or nothing
    would be seen any more. Raises ValueError without frames.
    """
    if not len(frames):
        raise ValueError("no frames, no picture of them")
    quantiser = _FINE
    picture = _laid_out(frames, height)
    made = _encoded(picture, quantiser)
    while most is not None and len(made) > most:
        if quantiser < _COARSEST:
            quantiser = min(_COARSEST, math.ceil(quantiser * 1.5))
        elif height > HEIGHT // 2:
            height = height * 3 // 4
            tall, wide = _tile(frames, height)
            down, columns = min(DOWN, len(frames)), columns_of(len(frames))
            picture = picture.reformat(wide * columns, tall * down, interpolation="AREA")
        else:
            break
        made = _encoded(picture, quantiser)
    return made


def columns_of(number: int) -> int:
    """In how many columns so many frames are laid out."""
    return -(-number // DOWN)


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


def in_columns(tiles: np.ndarray) -> np.ndarray:
    """Pictures [n h w ...], of which the last column may lack some, as one picture."""
    number, tall, wide = tiles.shape[:3]
    columns, down = columns_of(number), min(DOWN, number)
    short = columns * down - number
    filled = np.pad(tiles, [(0, short), *[(0, 0)] * (tiles.ndim - 1)]) if short else tiles
    grid = filled.reshape(columns, down * tall, wide, *tiles.shape[3:])
    return np.concatenate(list(grid), axis=1)


def _tile(frames: Sequence[Picture], height: int) -> tuple[int, int]:
    """Height and width of a thumbnail: even, since colours are stored at half the size."""
    tall, wide = frames[0].shape[:2]
    ratio = min(4.0, max(0.25, wide / tall))
    return 2 * max(1, round(height / 2)), 2 * max(1, round(height * ratio / 2))


def _laid_out(frames: Sequence[Picture], height: int) -> VideoFrame:
    """Thumbnails in columns, as the encoder takes them."""
    tall, wide = tile = _tile(frames, height)
    thinned = [_thinned(frame, tile) for frame in frames]
    shapes = {frame.shape[:2] for frame in thinned}
    alike = len(shapes) == 1 and inside(shapes.pop(), tile) == (0, 0, tall, wide)
    if alike and len(frames) <= DOWN:
        # one below the other: edges of frames are edges of thumbnails
        return _scaled(np.concatenate(thinned), tall * len(frames), wide, _KIND)
    tiles = np.zeros((len(frames), tall, wide, 3), dtype=np.uint8)
    for place, frame in enumerate(thinned):
        top, left, high, broad = inside(frame.shape[:2], tile)
        small = _scaled(frame, high, broad, "rgb24").to_ndarray()
        tiles[place, top : top + high, left : left + broad] = small
    whole = in_columns(tiles)
    return _scaled(whole, whole.shape[0], whole.shape[1], _KIND)


def _thinned(frame: Picture, tile: tuple[int, int]) -> Picture:
    """Some pixels of a large picture, in a grid: at least twice as many as are shown."""
    step = max(1, min(frame.shape[0] // (2 * tile[0]), frame.shape[1] // (2 * tile[1])))
    return frame[::step, ::step]


def _scaled(picture: np.ndarray, height: int, width: int, kind: str) -> VideoFrame:
    """By means of areas."""
    import av

    whole = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return whole.reformat(width, height, kind, interpolation="AREA")


def _encoded(picture: VideoFrame, quantiser: int) -> bytes:
    """A JPEG; a larger quantiser makes it coarser."""
    import av

    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = picture.height, picture.width
    encoder.pix_fmt = _KIND
    encoder.thread_count = 1  # to start others takes longer than so small a picture
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
