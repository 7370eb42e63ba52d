"""A parent's weights for a model of its size, or for a larger one that computes the same at first.

Every channel of the parent keeps its meaning; a head's channels go to those that turn at the same
frequency. What reads new channels starts at zero; what writes them starts small and random, so that
there is something to read, and only the norms feel it. Additional layers start as identities.

Towers do not grow: their norms subtract a mean, which new channels change. A model with a larger
tower takes one that has learnt (`eyes`), and its projector learns to say what the parent's says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from experiments.tiny.data import film
from experiments.tiny.labels import CELL
from experiments.tiny.model import PATCH, normalise
from tokenprune.tasks.scenes import SHAPES, SIZE

Model = LlavaOnevisionForConditionalGeneration
NOISE = 0.1  # of what writes new channels, beside a fresh model's
_LESSON = 2500  # steps of a projector's imitation
_PATCHES = 4096  # in each of them
_AMONG = 16  # videos rendered at once
_BARE = 0.3  # weight of patches that show no shape


def inherit(
    model: Model,
    tokens: PreTrainedTokenizerFast,
    folder: Path,
    *,
    eyes: Path | None = None,
    noise: float = NOISE,
) -> None:
    """Takes over the weights in `folder`; words that its tokenizer knew keep their embeddings."""
    parent = _load(folder)
    known = PreTrainedTokenizerFast.from_pretrained(folder).get_vocab()
    with torch.no_grad():
        _embeddings(parent, model, known, tokens.get_vocab(), noise)
        _decoder(parent, model, noise)
        if eyes is None:
            _tower(parent, model, folder)
            _projector(parent, model, noise)
    if eyes is not None:
        other = _load(eyes)
        _tower(other, model, eyes)
        imitate(parent, model, noise)


def _load(folder: Path) -> Model:
    return Model.from_pretrained(folder, dtype=torch.float32).eval()


def _tower(parent: Model, model: Model, folder: Path) -> None:
    mine, theirs = model.config.vision_config, parent.config.vision_config
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers")
    if any(getattr(mine, size) != getattr(theirs, size) for size in sizes):
        raise ValueError(
            f"the tower in {folder} has another size, and towers do not grow: name a model whose "
            "tower has the size with --eyes FOLDER"
        )
    model.model.vision_tower.load_state_dict(parent.model.vision_tower.state_dict())


def _embeddings(
    parent: Model, model: Model, known: dict[str, int], vocabulary: dict[str, int], noise: float
) -> None:
    """Of words and of the newline; new channels of words are small and random."""
    old = parent.model.language_model.embed_tokens.weight
    new = model.model.language_model.embed_tokens.weight
    width = old.shape[1]
    new[:, width:] *= noise * old.square().mean().sqrt() / new.square().mean().sqrt()
    for word, index in vocabulary.items():
        if word in known:
            new[index, :width] = old[known[word]]
    model.model.image_newline.zero_()
    model.model.image_newline[:width] = parent.model.image_newline


def _projector(parent: Model, model: Model, noise: float) -> None:
    old, new = parent.model.multi_modal_projector, model.model.multi_modal_projector
    inner = torch.arange(old.linear_1.out_features)
    _reads(old.linear_1, new.linear_1, inner)
    _writes(old.linear_2, new.linear_2, inner, noise)


def _decoder(parent: Model, model: Model, noise: float) -> None:
    old, new = parent.model.language_model, model.model.language_model
    more = len(new.layers) - len(old.layers)
    middle = (len(old.layers) + 1) // 2  # where the training's own heads read
    copies = [layer for n, layer in enumerate(new.layers) if not middle <= n < middle + more]
    for layer in new.layers[middle : middle + more]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    for theirs, mine in zip(old.layers, copies, strict=True):
        _layer(theirs, mine, old.config, noise)
    _norm(old.norm, new.norm)


def _layer(old: Any, new: Any, config: Any, noise: float) -> None:
    """One layer of the decoder; `config` is the parent's."""
    heads, pairs = config.num_attention_heads, config.num_key_value_heads
    narrow, wide = old.self_attn.head_dim, new.self_attn.head_dim
    _norm(old.input_layernorm, new.input_layernorm)
    _norm(old.post_attention_layernorm, new.post_attention_layernorm)
    queries = _channels(heads, narrow, wide, turning=True)
    keys = _channels(pairs, narrow, wide, turning=True)
    # scores are divided by the root of a head's width
    _reads(old.self_attn.q_proj, new.self_attn.q_proj, queries, (wide / narrow) ** 0.5)
    if wide > narrow:
        new.self_attn.k_proj.weight.zero_()  # new channels of queries meet nothing at first
    _reads(old.self_attn.k_proj, new.self_attn.k_proj, keys)
    values = _channels(pairs, narrow, wide, turning=False)
    _reads(old.self_attn.v_proj, new.self_attn.v_proj, values)
    outputs = _channels(heads, narrow, wide, turning=False)
    _writes(old.self_attn.o_proj, new.self_attn.o_proj, outputs, noise)
    inner = torch.arange(old.mlp.gate_proj.out_features)
    _reads(old.mlp.gate_proj, new.mlp.gate_proj, inner)
    _reads(old.mlp.up_proj, new.mlp.up_proj, inner)
    _writes(old.mlp.down_proj, new.mlp.down_proj, inner, noise)


def _channels(heads: int, narrow: int, wide: int, *, turning: bool) -> Tensor:
    """Where the channels of a projection's heads go: int64 [heads*narrow].

    Those that turn with the position (two halves of a head) go where the frequency is theirs.
    """
    place = torch.arange(narrow)
    if turning:
        stride, half = wide // narrow, narrow // 2
        later = wide // 2 + (place - half) * stride
        place = torch.where(place < half, place * stride, later)
    return (torch.arange(heads)[:, None] * wide + place).flatten()


def _norm(old: Any, new: Any) -> None:
    """Silent new channels make the mean square smaller: the weights make up for it."""
    width = len(old.weight)
    ratio = (len(new.weight) / width) ** 0.5
    new.weight.fill_(old.weight.mean().item() / ratio)
    new.weight[:width] = old.weight / ratio


def _reads(old: nn.Linear, new: nn.Linear, rows: Tensor, gain: float = 1.0) -> None:
    """A layer that reads the residual: `rows` see old channels; others keep their random start."""
    new.weight[rows] = 0
    new.weight[rows, : old.in_features] = gain * old.weight
    if old.bias is not None:
        new.bias.zero_()
        new.bias[rows] = gain * old.bias


def _writes(old: nn.Linear, new: nn.Linear, columns: Tensor, noise: float) -> None:
    """A layer that writes the residual: old channels from old `columns` alone."""
    width = old.out_features
    loud = new.weight[width:] * noise
    new.weight.zero_()
    new.weight[width:, columns] = loud[:, columns]
    new.weight[:width][:, columns] = old.weight
    if old.bias is not None:
        new.bias.zero_()
        new.bias[:width] = old.bias


def imitate(
    parent: Model, model: Model, noise: float, *, videos: int = 96, steps: int = _LESSON
) -> None:
    """Fits the projector of `model` to the parent's, patch by patch, behind its own tower."""
    seen, said, weight = _lesson(parent, model, videos)
    projector, width = model.model.multi_modal_projector, said.shape[1]
    adam = torch.optim.Adam(projector.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(seen), (_PATCHES,))
        missed = (projector(seen[rows])[:, :width] - said[rows]).square()
        loss = (weight[rows, None] * missed).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    with torch.no_grad():  # the other channels say what they like, quietly
        other = projector(seen[:_PATCHES])[:, width:]
        gain = noise * said.square().mean().sqrt() / other.square().mean().sqrt()
        projector.linear_2.weight[width:] *= gain
        projector.linear_2.bias[width:] *= gain


@torch.no_grad()
def _lesson(parent: Model, model: Model, videos: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of every patch: what the tower of `model` sees, what the parent says, how much it counts."""
    seen, said, weight = [], [], []
    cells, stride = SIZE // CELL, CELL // PATCH
    for index in range(videos // _AMONG):
        filmed = film(77, (1 << 19) + index, _AMONG, 16)
        frames = normalise(filmed.frames).flatten(0, 1)
        seen.append(model.model.vision_tower(frames).last_hidden_state.flatten(0, 1))
        theirs = parent.model.vision_tower(frames).last_hidden_state
        said.append(parent.model.multi_modal_projector(theirs).flatten(0, 1))
        shown = filmed.labels.cells[:, 1] != len(SHAPES)
        patches = shown.reshape(-1, cells, cells).repeat_interleave(stride, 1)
        weight.append(patches.repeat_interleave(stride, 2).flatten().float() + _BARE)
    return torch.cat(seen), torch.cat(said), torch.cat(weight)
