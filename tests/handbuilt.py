"""A model's forward pass written out, on a sequence from which rows are missing.

It uses the model's encoder and the parts of its layers, one sample at a time, unpadded and without
a cache: explicit positions, explicit masks, explicit rows of every layer. Nothing here is asked of
tokenprune.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from families import Family
from family_rows import TEXT, Inputs
from models import IMAGE, VIDEO
from torch import Tensor

# of logits in float32, on whatever kernels a CPU has; a row or a position that is wrong moves them
# thousands of times as far
ROUNDING = 1e-4
GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")


@dataclass(frozen=True)
class Sample:
    """One whole sample: what enters the language model, and where.

    Args:
        embeds: of its rows, `[s d]`
        positions: three axes `[3 s]` where the family has them, else None: they are contiguous
        deepstack: what is added to the rows behind the first layers, `[s d]` each, 0 on text
        blocks: number of the image that a row is of, -1 on text `[s]`
        farthest: largest position, of whatever axis and row
    """

    embeds: Tensor
    positions: Tensor | None
    blocks: Tensor
    deepstack: list[Tensor] = field(default_factory=list)
    farthest: int = 0


@dataclass(frozen=True)
class Removal:
    """What is left of a sample: rows by the LLM layer from which up there are no others.

    Args:
        rows: indices into the whole sample, by layer; layer 0 has all unless it says
        embeds: in place of the whole sample's, for stages that change features
        unseen: rows that words generated do not see in full layers, and from which layer up
        forgotten: rows that words generated see in no layer
        becomes: what hidden states of the rows that are there are, before some of them go
        anew: positions are counted from 0 wherever rows go
        stays: rows have the positions that they have in the whole sample
    """

    rows: Mapping[int, Tensor] = field(default_factory=dict)
    embeds: Tensor | None = None
    unseen: tuple[int, Tensor] | None = None
    forgotten: Tensor | None = None
    becomes: Callable[[Tensor, Tensor], Tensor] | None = None  # of rows and their states
    anew: bool = False
    stays: bool = False


NOTHING = Removal()


def whole(model: Any, family: Family, inputs: Inputs) -> Sample:
    """The sample that `inputs`, unpadded, are for the language model."""
    ids = inputs["input_ids"]
    embeds = model.get_input_embeddings()(ids)[0].clone()
    deepstack: list[Tensor] = []
    for token, encoded in _encoded(model, family, inputs):
        rows = ids[0] == token
        embeds[rows] = _rows(encoded.pooler_output)
        features = getattr(encoded, "deepstack_features", None) or ()
        deepstack = deepstack or [torch.zeros_like(embeds) for _ in features]
        for added, feature in zip(deepstack, features, strict=True):
            added[rows] = _rows(feature)
    visual = ids[0] == family.placeholder
    starts = visual & ~torch.cat([visual.new_zeros(1), visual[:-1]])
    blocks = torch.where(visual, starts.cumsum(0) - 1, -1)
    if not family.mrope:
        return Sample(embeds, None, blocks, deepstack)
    grids = {name: inputs[name] for name in GRIDS if name in inputs}
    positions, _ = model.model.get_rope_index(
        ids, mm_token_type_ids=inputs["mm_token_type_ids"], **grids
    )
    return Sample(embeds, positions[:, 0], blocks, deepstack, int(positions.max()))


def _encoded(model: Any, family: Family, inputs: Inputs) -> Iterator[tuple[int, Any]]:
    """Placeholders, and the features that go in their place."""
    body = model.model
    if "pixel_values" in inputs:
        grids = [inputs["image_grid_thw"]] if "image_grid_thw" in inputs else []
        yield IMAGE, body.get_image_features(inputs["pixel_values"], *grids, return_dict=True)
    if "pixel_values_videos" in inputs:
        values = inputs["pixel_values_videos"]
        grids = {"video_grid_thw": inputs["video_grid_thw"]} if family.mrope else {}
        yield VIDEO, body.get_video_features(values, **grids, return_dict=True)


def _rows(features: Any) -> Tensor:
    """Features of all videos, one below another."""
    parts = [part.flatten(0, -2) for part in features]
    return torch.cat(parts)


def logits(
    model: Any,
    sample: Sample,
    words: Tensor,
    removed: Removal = NOTHING,
    places: Tensor | None = None,
) -> Tensor:
    """Logits behind the prompt's last row and behind each of `words` `[t]`: `[t + 1, v]`.

    `places` are the words' positions where those have three axes; else they follow the last row's,
    as in `generate`.
    """
    text, config = model.model.language_model, model.model.language_model.config
    length, new = len(sample.embeds), len(words)
    embeds = sample.embeds if removed.embeds is None else removed.embeds
    added = torch.arange(length, length + new)
    rows = torch.cat([removed.rows.get(0, torch.arange(length)), added])
    hidden = torch.cat([embeds, model.get_input_embeddings()(words)])[rows][None]
    positions = rows[None] if removed.stays else _positions(sample, rows, new, places)
    blocks = torch.cat([sample.blocks, torch.full((new,), -1)])
    deepstack = [torch.cat([part, part.new_zeros(new, part.shape[1])]) for part in sample.deepstack]
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(text.layers)
    for number, (kind, layer) in enumerate(zip(kinds, text.layers, strict=True)):
        if number and number in removed.rows:
            if removed.becomes is not None:
                hidden = removed.becomes(rows, hidden[0])[None]
            place = {int(row): here for here, row in enumerate(rows)}
            left = [place[int(row)] for row in torch.cat([removed.rows[number], added])]
            rows, hidden, positions = rows[left], hidden[:, left], positions[..., left]
            if removed.anew:
                positions = torch.arange(len(rows))[None]
        window = config.sliding_window if kind == "sliding_attention" else None
        bidirectional = blocks[rows] if config.model_type.startswith("gemma3") else None
        visible = _visible(len(rows), window, bidirectional)
        hides = removed.unseen is not None and number >= removed.unseen[0] and window is None
        if removed.unseen is not None and hides:
            visible &= ~((rows >= length)[:, None] & torch.isin(rows, removed.unseen[1]))
        if removed.forgotten is not None:
            visible &= ~((rows >= length)[:, None] & torch.isin(rows, removed.forgotten))
        least = torch.finfo(hidden.dtype).min
        mask = torch.zeros(visible.shape).masked_fill(~visible, least)[None, None]
        rotary = (kind,) if config.model_type.startswith("gemma3") else ()
        turned = text.rotary_emb(hidden, positions, *rotary)
        hidden = layer(hidden, attention_mask=mask, position_embeddings=turned)
        if number < len(deepstack):
            hidden = hidden + deepstack[number][rows]
    return model.lm_head(text.norm(hidden))[0, len(rows) - new - 1 :]


def _positions(sample: Sample, rows: Tensor, new: int, places: Tensor | None) -> Tensor:
    """`[1 s]`, or `[3 1 s]`, of the rows that enter the first layer."""
    if sample.positions is None:
        return torch.arange(len(rows))[None]
    if places is None:
        places = sample.positions[0, -1] + 1 + torch.arange(new)
    return torch.cat([sample.positions, places.expand(3, -1)], dim=1)[:, None, rows]


def _visible(length: int, window: int | None, blocks: Tensor | None) -> Tensor:
    """Which rows see which `[s s]`; `blocks` are images, whose rows all see each other."""
    place = torch.arange(length)
    visible = place <= place[:, None]
    if blocks is not None:
        visible |= (blocks == blocks[:, None]) & (blocks != TEXT)
    if window is not None:
        visible &= place > place[:, None] - window
    return visible
