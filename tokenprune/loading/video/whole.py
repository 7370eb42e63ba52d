"""Whether a file's pictures end where the file says that they do."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from tokenprune.errors import VideoError

_TAIL = 4096  # bytes: this many zeros at the end of a file are a hole, not an index
_BOX = re.compile(rb"[ -~\xa9]{4}")
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:[.,]\d+)?)")


def check_whole(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    shown: int,
    start: float,
    end: float,
    stay: float,
) -> None:
    """Raises VideoError where `shown` pictures from second `start` to `end` are clearly not all
    that is stated.

    MPEG-TS and the like state nothing. A file whose bytes add up is whole whatever its header says
    of durations, which may be those of longer sound, of a tag written by hand, or count a last
    picture whose duration is not stored; `stay` is how long the pictures before it stay at most, in
    seconds.
    """
    if stream.frames and shown >= stream.frames:
        return
    complete = adds_up(path)
    if complete:
        return
    stated, shared = _length(container, stream, start)
    short = stated is not None and _short(end - start, stated)
    if complete is None:  # the sound may be longer, or the last picture stay as long as others do
        short = stated is not None and not shared and _short(end - start + stay, stated)
    if short:
        raise VideoError(
            f"{path} is truncated: its pictures end after {end - start:.1f} of {stated:.1f} seconds"
        )
    # FFmpeg shortens the duration of a truncated AVI itself
    if complete is False and shown < 0.95 * stream.frames:
        raise VideoError(f"{path} is truncated: it holds {shown} of {stream.frames} pictures")


def _short(lasted: float, stated: float) -> bool:
    return lasted < stated - max(0.5, 0.05 * stated)


def _length(
    container: InputContainer, stream: VideoStream, start: float
) -> tuple[float | None, bool]:
    """Seconds that the container states for the pictures, and whether they are its longest
    stream's.

    Matroska, as FFmpeg writes it, states the time of the end.
    """
    matroska = "matroska" in container.format.name
    if not matroska and stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base), False
    # DURATION-eng
    tags = [value for name, value in stream.metadata.items() if name.startswith("DURATION")]
    clock = next((found for tag in tags if (found := _CLOCK.match(tag)) is not None), None)
    if clock is not None:
        hours, minutes, seconds = clock.groups()
        stated, shared = (
            3600 * int(hours) + 60 * int(minutes) + float(seconds.replace(",", ".")),
            False,
        )
    elif container.duration is not None:
        stated, shared = container.duration / av.time_base, len(container.streams) > 1
    else:
        return None, False
    return (stated - start if matroska and stated > start else stated), shared


def adds_up(path: Path) -> bool | None:
    """Whether a file is as long as what it is made of says; None where that cannot be told."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(max(0, size - _TAIL))
        if size > _TAIL and not file.read().strip(b"\0"):
            return False
        if head[:4] == b"RIFF":
            return _chunks(file, size)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _segment(file, size)
        if head[:3] == b"FLV":
            return _flash(file, size)
        if head[:3] == b"GIF":
            file.seek(size - 1)
            return file.read(1) == b";"
        return (
            _boxes(file, size)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"styp", b"wide")
            else None
        )


def _chunks(file: BinaryIO, size: int) -> bool:
    """AVI: RIFF chunks, of which files above 1 GB have several."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            return at > 0
        at += 8 + length + length % 2
    return at <= size + 1  # the last byte may lack its padding


def _segment(file: BinaryIO, size: int) -> bool | None:
    """Matroska, WebM: a header and a segment, whose length a stream leaves open."""
    at = 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        file.seek(at)
        data = file.read(12)
        width = 9 - data[4].bit_length() if len(data) == 12 else 9
        if data[:4] != name or width > 8:
            return None
        length = int.from_bytes(data[4 : 4 + width], "big") - (1 << 7 * width)
        if length == (1 << 7 * width) - 1:
            return None
        at += 4 + width + length
    return at <= size


def _flash(file: BinaryIO, size: int) -> bool | None:
    """FLV: the size that its first script states."""
    file.seek(0)
    data = file.read(1 << 16)
    at = data.find(b"\x00\x08filesize\x00")
    if at < 0 or at + 19 > len(data):
        return None
    stated = struct.unpack(">d", data[at + 11 : at + 19])[0]
    return size >= stated if stated > 0 else None


def _boxes(file: BinaryIO, size: int) -> bool | None:
    """MP4, MOV."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8 or not _BOX.fullmatch(name):
            return None  # to the end of the file, or something behind the last box
        at += length
    return at <= size
