"""Prompts around a video: random words, and placeholders where a family's processor puts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.tokens import Video

BEFORE = 14  # text tokens before the video, as in LLaVA-OneVision's prompt with a system message


@dataclass(frozen=True)
class Marks:
    """Rows of text that come with a video: no stage touches them, and the LLM reads them all.

    Args:
        before, behind: the video
        opening, closing: each of its frames
    """

    before: int = 0
    behind: int = 0
    opening: int = 0
    closing: int = 0

    def around(self, video: Video) -> int:
        """All of a video's."""
        return self.before + video.frames * (self.opening + self.closing) + self.behind

    def rows(self, video: Video, placeholders: int) -> list[bool]:
        """The rows of a video of `placeholders` rows: True where one of these stands."""
        if placeholders % video.frames:  # some were left out: which ones does not matter here
            return [False] * self.around(video) + [True] * placeholders
        each = placeholders // video.frames
        frame = [False] * self.opening + [True] * each + [False] * self.closing
        return [False] * self.before + frame * video.frames + [False] * self.behind


_AROUND = Marks(before=1, behind=1)  # vision start and end
# `<1.5 seconds>` is six tokens; every frame has start and end marks of its own inside these
_TIMED = Marks(before=1, behind=1, opening=7, closing=1)
MARKS = {
    "qwen2_vl": _AROUND,
    "qwen2_5_vl": _AROUND,
    "qwen3_vl": _TIMED,
    "qwen3_vl_moe": _TIMED,
    # `Frame1: <img>` is five tokens, `</img>` and a line break two
    "internvl": Marks(opening=5, closing=2),
    # start and end of an image, and line breaks
    "gemma3": Marks(opening=2, closing=2),
}


def left_padded(
    texts: Sequence[int], words: Sequence[int], video: Sequence[bool], placeholder: int, pad: int
) -> tuple[Int[Tensor, "b s"], Int[Tensor, "b s"]]:
    """Ids and mask of a batch, padded on the left, as `generate` wants it.

    `texts` are the lengths of the samples' texts, taken from `words`; `video` says in which of its
    rows a placeholder stands.
    """
    before = min(BEFORE, min(texts) // 2)
    shown = [placeholder if visual else words[0] for visual in video]
    rows = [[*words[:before], *shown, *words[before:length]] for length in texts]
    longest = max(map(len, rows))
    missing = [longest - len(row) for row in rows]
    ids = [[pad] * gap + row for gap, row in zip(missing, rows, strict=True)]
    mask = [[0] * gap + [1] * len(row) for gap, row in zip(missing, rows, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)
