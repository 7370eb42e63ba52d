"""Operation counts as the papers print them: a multiply-add is one operation.

Visual tokens of the LLM's prefill only: text, newline, vision tower, projector and `lm_head` are
not counted. `c2` is what most papers of the field print, `cs` the stricter count for honest
reports. `x` is always a number of tokens, and may be a fractional average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """The sizes of a language model that a count depends on.

    Args:
        layers: how many
        width: of the hidden states
        ffn: width inside the feed-forward network; of experts, those that a token goes through
        kv_width: key/value heads times head width
    """

    layers: int
    width: int
    ffn: int
    kv_width: int

    @classmethod
    def of(cls, text_config: Any) -> Decoder:
        """From the configuration of a Hugging Face language model (a PreTrainedConfig: no import of
        transformers, so that counting alone is quick).
        """
        heads = text_config.num_attention_heads
        head_width = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
        return cls(
            layers=text_config.num_hidden_layers,
            width=text_config.hidden_size,
            ffn=_ffn(text_config),
            kv_width=head_width * (getattr(text_config, "num_key_value_heads", None) or heads),
        )


def _ffn(text_config: Any) -> int:
    """The width that one token goes through: of a mixture of experts, of those it is sent to."""
    if not getattr(text_config, "num_experts", 0):
        return text_config.intermediate_size
    return text_config.num_experts_per_tok * text_config.moe_intermediate_size


Number = int | float
Count = Callable[[Decoder, Number], Number]  # operations of one layer that sees x tokens


def c2(decoder: Decoder, x: Number) -> Number:
    """One layer, full key/value width, two FFN matrices: FastV, VisionZip, DyCoke, DyToK."""
    d, m = decoder.width, decoder.ffn
    return 4 * x * d**2 + 2 * x**2 * d + 2 * x * d * m


def cs(decoder: Decoder, x: Number) -> Number:
    """One layer, grouped-query attention, three FFN matrices: FastVID, the stricter count."""
    d, m = decoder.width, decoder.ffn
    return 2 * x * d**2 + 2 * x * d * decoder.kv_width + 2 * x**2 * d + 3 * x * d * m


def c3(decoder: Decoder, x: Number) -> Number:
    """One layer, full key/value width, three FFN matrices: PyramidDrop."""
    d, m = decoder.width, decoder.ffn
    return 4 * x * d**2 + 2 * x**2 * d + 3 * x * d * m


def prefill(decoder: Decoder, tokens: Number | Sequence[Number], count: Count = cs) -> Number:
    """All layers; `tokens` is what every layer sees, or one number per layer."""
    if not isinstance(tokens, Sequence):
        return decoder.layers * count(decoder, tokens)
    if len(tokens) != decoder.layers:
        raise ValueError(
            f"{len(tokens)} token counts for a decoder of {decoder.layers} layers: give one per "
            "layer"
        )
    return sum(count(decoder, x) for x in tokens)


def flops_ratio(
    decoder: Decoder,
    tokens_per_layer: Sequence[Number],
    full: Number,
    guide: Decoder | None = None,
    probe_layers: int = 0,
    count: Count = cs,
    probe_tokens: Number | None = None,
) -> float:
    """Operations of a compressed prefill over those of one that sees `full` tokens in every layer.

    Counts the visual tokens of the LLM only; an allocator's probe adds `probe_layers` whole layers
    of `guide` over `probe_tokens`, which are all of them unless it sees pooled frames (as DyToK's
    Table 16 does; a bound from above, since the last layer stops at its queries and keys).
    """
    probe = probe_layers * count(guide or decoder, full if probe_tokens is None else probe_tokens)
    return (prefill(decoder, tokens_per_layer, count) + probe) / prefill(decoder, full, count)


def dycoke(
    decoder: Decoder,
    x: Number | Sequence[Number],
    generated: int = 100,
    decode_x: Number | Sequence[Number] | None = None,
) -> Number:
    """DyCoke eq. 8: `c2` prefill of `x` tokens, then `generated` steps over `decode_x` of them.

    Over all of them by default. Both are what every layer sees, or one number per layer.
    """
    d, m = decoder.width, decoder.ffn
    found = x if decode_x is None else decode_x
    seen = found if isinstance(found, Sequence) else [found] * decoder.layers
    fixed = (4 * d**2 + 2 * d * m) + d * (generated + 1)
    return prefill(decoder, x, c2) + generated * sum(fixed + 2 * d * each for each in seen)
