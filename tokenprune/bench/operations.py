"""Operations of one prompt, counted twice: as papers do, and all that the architecture multiplies.

Units: a multiply-add is one operation, as in `tokenprune.flops`; torch's FLOP counter says twice as
much.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedConfig

from tokenprune.flops import Decoder, Number, c2, dycoke, prefill


@dataclass(frozen=True)
class Work:
    """What one sample went through, as measured; visual rows by LLM layer."""

    images: int  # frames that the tower encodes; 0 with made-up features
    full: int  # visual rows without compression
    # all other rows of the prompt, a newline embedding too; of the mean prompt where a batch is
    # ragged
    text: Number
    layers: Sequence[Number]  # visual rows each layer saw at prefill
    # visual rows each layer attends to in a decoding step, mean over steps
    decode: Sequence[Number]
    generated: int  # new tokens; the first of them comes out of the prefill
    probe_layers: int = 0  # layers an allocator's guide ran over the uncompressed prompt


@dataclass(frozen=True)
class Exact:
    """Multiply-adds by part of the model."""

    tower: Number
    projector: Number
    probe: Number
    prefill: Number
    lm_head: Number
    decode: Number

    @property
    def llm(self) -> Number:
        """What happens between the visual features and the first token."""
        return self.probe + self.prefill

    @property
    def total(self) -> Number:
        return sum(asdict(self).values())

    def as_dict(self) -> dict[str, Number]:
        return asdict(self)


def papers(config: PreTrainedConfig, work: Work, guide: PreTrainedConfig | None = None) -> Number:
    """DyCoke eq. 8 layer by layer, plus DyToK's probe as its Table 16 counts it.

    Visual tokens, c2 per layer. Two FFN matrices, keys and values at full width, no text, tower,
    projector or `lm_head`.
    """
    decoder = Decoder.of(config.get_text_config())
    # eq. 8 multiplies one layer's count by their number, so its mean over layers is the sum of
    # theirs
    own = statistics.fmean(
        dycoke(decoder, x, work.generated, seen)
        for x, seen in zip(work.layers, work.decode, strict=True)
    )
    guided_by = Decoder.of((guide or config).get_text_config())
    return own + work.probe_layers * c2(guided_by, work.full)


def papers_prefill(
    config: PreTrainedConfig, work: Work, guide: PreTrainedConfig | None = None
) -> Number:
    """The part of `papers` before the first token: what FastV, VisionZip and DyToK print."""
    guided_by = Decoder.of((guide or config).get_text_config())
    own = prefill(Decoder.of(config.get_text_config()), work.layers, c2)
    return own + work.probe_layers * c2(guided_by, work.full)


def exact(config: PreTrainedConfig, work: Work, guide: PreTrainedConfig | None = None) -> Exact:
    """Every matrix product of the architecture.

    Grouped queries, three FFN matrices, text rows, tower, projector, head. Attention is counted
    over the whole square, as papers and torch's counter do; a causal kernel skips up to half of it.
    Not counted: norms, rotations, pooling, embeddings, and a strategy's own arithmetic, which its
    time has.
    """
    text = config.get_text_config()
    seen = [work.text + x for x in work.layers]
    attended = [work.text + x for x in work.decode]
    steps = work.generated - 1
    mean_tail = (steps + 1) / 2  # generated rows that a step attends to, its own included
    tower, projector = _vision(config, work.images)
    probe = _probe(guide or config, work)
    if guide is not None:
        probe += sum(_vision(guide, work.images))  # an assistant looks at the frames itself
    head = text.hidden_size * text.vocab_size
    return Exact(
        tower=tower,
        projector=projector,
        probe=probe,
        prefill=sum(_layer(text, rows, rows) for rows in seen),
        lm_head=work.generated * head,
        decode=steps * sum(_layer(text, 1, rows + mean_tail) for rows in attended),
    )


def _widths(text: PreTrainedConfig) -> tuple[int, int]:
    """Of all query heads side by side, and of all key/value heads."""
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    return heads * head, (getattr(text, "num_key_value_heads", None) or heads) * head


def _layer(text: PreTrainedConfig, rows: Number, keys: Number) -> Number:
    """One decoder layer over `rows` rows that each attend to `keys`."""
    d, (q, kv) = text.hidden_size, _widths(text)
    return rows * (2 * d * q + 2 * d * kv + 3 * d * text.intermediate_size) + 2 * rows * keys * q


def _probe(config: PreTrainedConfig, work: Work) -> Number:
    """Whole layers of the guide below the last one requested; of that, queries, keys and values."""
    if not work.probe_layers:
        return 0
    text, rows = config.get_text_config(), work.text + work.full
    q, kv = _widths(text)
    return (work.probe_layers - 1) * _layer(text, rows, rows) + rows * text.hidden_size * (
        q + 2 * kv
    )


def _vision(config: PreTrainedConfig, images: int) -> tuple[Number, Number]:
    """The tower and the projector, which runs before pooling."""
    vision = config.vision_config
    d, m = vision.hidden_size, vision.intermediate_size
    patches = (vision.image_size // vision.patch_size) ** 2
    stem = patches * vision.num_channels * vision.patch_size**2 * d
    layer = 4 * patches * d**2 + 2 * patches**2 * d + 2 * patches * d * m
    # a pooling head, which the published checkpoints leave out, runs although nobody reads it: one
    # query
    head = (
        2 * d**2 + 2 * patches * d**2 + 2 * patches * d + 2 * d * m if vision.vision_use_head else 0
    )
    width = config.get_text_config().hidden_size
    chosen = config.vision_feature_layer
    joined = d * (1 if isinstance(chosen, int) else len(chosen))
    projector = patches * (joined * width + width**2)
    return images * (stem + vision.num_hidden_layers * layer + head), images * projector
