"""Colours: what was encoded comes out, whatever the matrix, range and depth, and whatever release
of PyAV reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tokenprune.loading.video import read_frames

WANTED = (32, 192, 64)
LUMA = {
    "601": (0.299, 0.114),
    "709": (0.2126, 0.0722),
    "240": (0.212, 0.087),
    "2020": (0.2627, 0.0593),
}


def coloured(
    path: Path, matrix: str, full: bool, number: int | None, pixels: str = "yuv420p", size: int = 64
) -> Path:
    """A picture of one colour, its planes computed here (ITU-T H.273); tagged with the matrix
    `number`, or not.
    """
    red, green, blue = (value / 255 for value in WANTED)
    of_red, of_blue = LUMA[matrix]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    chroma = ((blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red))
    planes = [
        255 * luma if full else 16 + 219 * luma,
        *(128 + (255 if full else 224) * part for part in chroma),
    ]
    deep = "10" in pixels
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = size, size, pixels
        if number is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = (
                number,
                2 if full else 1,
            )
        frame = av.VideoFrame(size, size, pixels)
        for plane, value in zip(frame.planes, planes, strict=True):
            room = plane.buffer_size // (2 if deep else 1)
            plane.update(
                np.full(
                    room, round(4 * value if deep else value), np.uint16 if deep else np.uint8
                ).tobytes()
            )
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("matrix", "full", "number", "pixels", "size"),
    [
        ("709", False, 1, "yuv420p", 64),
        ("709", True, 1, "yuv420p", 64),
        ("709", False, 1, "yuv420p10le", 64),
        ("709", False, 1, "yuv444p", 64),
        ("601", False, 5, "yuv420p", 64),
        ("601", False, 6, "yuv420p", 64),
        ("601", True, 5, "yuv420p", 64),
        ("601", True, None, "yuvj420p", 64),
        ("240", False, 7, "yuv420p", 64),
        ("2020", False, 9, "yuv420p10le", 64),
        (
            "601",
            False,
            None,
            "yuv420p",
            64,
        ),  # says nothing: BT.601, as in the field's evaluation codes,
        ("601", False, None, "yuv420p", 1088),  # also where a player would guess BT.709
    ],
)
def test_colours(
    tmp_path: Path, matrix: str, full: bool, number: int | None, pixels: str, size: int
) -> None:
    path = coloured(tmp_path / "a.mp4", matrix, full, number, pixels, size)
    assert read_frames(path, 1)[0, size // 2, size // 2].tolist() == pytest.approx(WANTED, abs=3)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "level"),
    [("a.gif", "gif", "rgb8", 255), ("a.mkv", "ffv1", "gray", 219)],
)
def test_pictures_without_chroma_planes(
    tmp_path: Path, name: str, codec: str, pixels: str, level: int
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pixels
        picture = np.full((32, 32, 3), level, np.uint8)
        for _ in range(2):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
                )
            )
        container.mux(stream.encode())
    assert read_frames(path, 1)[0, 16, 16].tolist() == pytest.approx([level] * 3, abs=3)
