"""What a task of lmms-eval shows for a document, as frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenprune.errors import LmmsError, VideoError
from tokenprune.loading.media import Medium
from tokenprune.loading.video import Clip, Spread, frame_indices, read_clip


def visuals_of(doc_to_visual: Callable[[Any], Any], doc: Any) -> list[Any]:
    """What the task shows; tasks whose video is missing leave the process, or raise OSError, which
    becomes a VideoError here.
    """
    try:
        return list(doc_to_visual(doc) or [])
    except (SystemExit, OSError) as missing:
        raise VideoError(str(missing)) from None


def shown_of(visuals: list[Any], spread: Spread) -> tuple[Clip, tuple[Tensor | Medium, ...]]:
    """The first video; and, where there is more than one file, all videos and images in order.

    Raises as `clip_of`.
    """
    from PIL.Image import Image

    files = [visual for visual in visuals if isinstance(visual, str)]
    images = [visual for visual in visuals if isinstance(visual, Image)]
    if not files or len(visuals) < 2 or len(files) + len(images) < len(visuals):
        return clip_of(visuals, spread), ()
    clips = [read_clip(file, *spread) for file in files]
    waiting = iter(clips)
    media: list[Tensor | Medium] = []
    for visual in visuals:
        if isinstance(visual, str):
            clip = next(waiting)
            media.append(Medium(clip.frames, clip.times))
        else:
            media.append(torch.from_numpy(np.array(visual.convert("RGB"))))
    return clips[0], tuple(media)


def clip_of(visuals: list[Any], spread: Spread) -> Clip:
    """Frames, spread evenly, of one video file, or of images that are a video's frames in order.

    Images carry no times, and are taken by number.
    Raises VideoError for a file that cannot be read, LmmsError for what is not a single video.
    """
    from PIL.Image import Image

    if len(visuals) == 1 and isinstance(visuals[0], str):
        return read_clip(visuals[0], *spread)
    if len(visuals) > 1 and all(isinstance(visual, Image) for visual in visuals):
        if len({visual.size for visual in visuals}) > 1:
            raise LmmsError(
                "images of different sizes are not frames of one video, which is all that "
                "tokenprune takes"
            )
        indices = frame_indices(len(visuals), spread.frames, spread.short)
        chosen = [visuals[index].convert("RGB") for index in indices]
        return Clip(
            torch.from_numpy(np.stack([np.asarray(image) for image in chosen])),
            None,
            tuple(indices),
        )
    shown = ", ".join(sorted({type(visual).__name__ for visual in visuals})) or "nothing"
    raise LmmsError(
        f"the document shows {len(visuals)} visuals ({shown}): tokenprune takes video files, "
        "images beside them, or a video's frames"
    )
