"""What lies over the frames: dropped cells dark, a line where kept ones end, all else clear.

A PNG of a few colours takes a fraction of what outlines take as text.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenprune.sheets.thumbnails import in_columns, inside

# of a cell's side, about; and of a frame's longer side, at least and at most
_CELL, _LEAST, _MOST = 5, 72, 160
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CLEAR, _DARK, _LINE = 0, 1, 2
_COLOURS = bytes([0, 0, 0, 8, 10, 14, 255, 255, 255])
_OPACITY = bytes([0, 200, 235])


def mask(
    slots: Sequence[Sequence[int]],
    grids: Sequence[tuple[int, int]],
    shapes: Sequence[tuple[int, int]],
) -> str:
    """The data URI of a PNG with a tile for each frame, laid out as the strip's thumbnails.

    `shapes` are heights and widths of the frames' pictures, all in one unit.
    """
    tile = _tile(grids[0], shapes[0])
    tall, wide = tile
    tiles = np.zeros((len(slots), tall, wide), dtype=np.uint8)
    alike: dict[Any, list[int]] = {}
    for frame, look in enumerate(zip(grids, shapes, strict=True)):
        alike.setdefault(look, []).append(frame)
    for (grid, shape), frames in alike.items():
        top, left, high, broad = inside(shape, tile)
        over = _over([slots[frame] for frame in frames], grid, (high, broad))
        tiles[frames, top : top + high, left : left + broad] = over
    text = base64.b64encode(_png(in_columns(tiles))).decode("ascii")
    return f"data:image/png;base64,{text}"


def _tile(grid: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a tile: cells are whole pixels, and as many along both sides."""
    longer = min(_MOST, max(_LEAST, _CELL * max(grid)))
    scale = longer / max(shape)
    sides = [max(cells, round(scale * side)) for side, cells in zip(shape, grid, strict=True)]
    tall, wide = (max(1, side // cells) * cells for side, cells in zip(sides, grid, strict=True))
    return tall, wide


def _over(
    slots: Sequence[Sequence[int]], grid: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """What lies over frames of one grid: uint8 [f h w]."""
    kept = np.zeros((len(slots), grid[0] * grid[1]), dtype=bool)
    for frame, cells in enumerate(slots):
        kept[frame, list(cells)] = True
    rows = np.arange(size[0]) * grid[0] // size[0]
    columns = np.arange(size[1]) * grid[1] // size[1]
    bright = kept.reshape(-1, *grid)[:, rows][:, :, columns]
    # on the dark side, so that nothing of a kept cell is covered
    beside = np.zeros_like(bright)
    beside[:, 1:] |= bright[:, :-1]
    beside[:, :-1] |= bright[:, 1:]
    beside[:, :, 1:] |= bright[:, :, :-1]
    beside[:, :, :-1] |= bright[:, :, 1:]
    return np.where(bright, _CLEAR, np.where(beside, _LINE, _DARK)).astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    """Two bits a pixel, with a palette."""
    height, width = picture.shape
    padded = np.pad(picture, ((0, 0), (0, -width % 4)))
    packed = sum(padded[:, place::4] << (6 - 2 * place) for place in range(4))
    lines = np.pad(np.asarray(packed, dtype=np.uint8), ((0, 0), (1, 0)))  # each begins with 0
    header = struct.pack(">IIBBBBB", width, height, 2, 3, 0, 0, 0)
    parts = {
        b"IHDR": header,
        b"PLTE": _COLOURS,
        b"tRNS": _OPACITY,
        b"IDAT": zlib.compress(lines.tobytes(), 6),
        b"IEND": b"",
    }
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts.items())


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
