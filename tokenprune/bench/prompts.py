"""Prompts around a video: random words, and placeholders where a family's processor puts them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.adapters.preparation import Preparation, Written
from tokenprune.tokens import Video

BEFORE = 14  # text tokens before the video, as in LLaVA-OneVision's prompt with a system message
# about what a tokenizer makes of timestamps and marks: special tokens, words, digits, signs
_TOKEN = re.compile(r"<\|?[^<>| ]+\|?>| ?[A-Za-z]+|\d|\S|\s")


def rows_of(written: Iterable[Written]) -> list[bool]:
    """The rows of a video as it is written into a prompt: True where a placeholder stands.

    Text between placeholders takes about as many rows as a tokenizer would make of it.
    """
    rows: list[bool] = []
    for piece in chain.from_iterable(written):
        rows += [True] * piece if isinstance(piece, int) else [False] * len(_TOKEN.findall(piece))
    return rows


def marks_of(preparation: Preparation, video: Video) -> int:
    """Rows of text that are written around and between a video's frames."""
    return rows_of(preparation.written(video, [0.0] * video.frames)).count(False)


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
