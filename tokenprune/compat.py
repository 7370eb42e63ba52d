"""What differs between the releases of libraries that `pyproject.toml` allows, asked of what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


def open_video(file: str) -> InputContainer:
    """`av.open` that reads tags in any encoding.

    Before 19 a tag that is no UTF-8 is an error unless told otherwise; since 19 it never is, and the argument is gone.
    """
    import av

    try:
        return av.open(file, metadata_errors="ignore")
    except TypeError:  # compiled: it has no signature to ask
        return av.open(file)


def pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams without cover art, which for PyAV 14.0 is a JPEG or PNG beside another stream."""
    streams = list(container.streams.video)
    if streams and hasattr(streams[0], "disposition"):
        from av.stream import Disposition

        return [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    moving = [stream for stream in streams if stream.codec_context.name not in ("mjpeg", "png")]
    return moving or streams


def rotation(frame: VideoFrame) -> float:
    """Degrees, counter-clockwise, that a frame is to be turned by; PyAV 14.0 has the matrix only.

    There it holds on to every frame asked, until Python collects cycles.
    """
    if hasattr(frame, "rotation"):
        return float(frame.rotation)
    import math
    import struct

    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return 0.0
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return 0.0
    return -math.degrees(math.atan2(b / down, a / across))  # FFmpeg's av_display_rotation_get
