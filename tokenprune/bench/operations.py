"""Operations of one prompt, counted twice: as papers do, and all that the architecture multiplies.

Units: a multiply-add is one operation, as in `tokenprune.flops`; torch's FLOP counter says twice as
much.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from transformers import PreTrainedConfig

from tokenprune.bench.attended import keys_of_a_step, pairs, widths, windows
from tokenprune.bench.towers import Grid, Tower, own_grid, project
from tokenprune.flops import Decoder, Number, c2, dycoke, prefill
from tokenprune.runtime.tower_report import TowerLayer


@dataclass(frozen=True)
class Work:
    """What one sample went through, as measured; visual rows by LLM layer."""

    images: int  # frames (or temporal patches) that the tower encodes; 0 with made-up features
    full: int  # visual rows without compression
    # all other rows of the prompt, a newline embedding too; of the mean prompt where a batch is
    # ragged
    text: Number
    layers: Sequence[Number]  # visual rows each layer saw at prefill
    # visual rows each layer attends to in a decoding step, mean over steps
    decode: Sequence[Number]
    generated: int  # new tokens; the first of them comes out of the prefill
    probe_layers: int = 0  # layers an allocator's guide ran over the uncompressed prompt
    grid: Grid | None = None  # of a frame; None: the tower has a size of its own
    # what each tower layer worked on, under a stage inside the tower; empty: on all of the images
    tower: Sequence[TowerLayer] = ()
    # visual rows that the guide read, where it saw pooled frames; None: all of them
    probe_rows: Number | None = None
    shares_tower: bool = False  # whether an assistant took over what the model's own tower made

    @property
    def probed(self) -> Number:
        return self.full if self.probe_rows is None else self.probe_rows


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
    return own + work.probe_layers * c2(guided_by, work.probed)


def papers_prefill(
    config: PreTrainedConfig, work: Work, guide: PreTrainedConfig | None = None
) -> Number:
    """The part of `papers` before the first token: what FastV, VisionZip and DyToK print."""
    guided_by = Decoder.of((guide or config).get_text_config())
    own = prefill(Decoder.of(config.get_text_config()), work.layers, c2)
    return own + work.probe_layers * c2(guided_by, work.probed)


def exact(config: PreTrainedConfig, work: Work, guide: PreTrainedConfig | None = None) -> Exact:
    """Every matrix product of the architecture.

    Grouped queries, three FFN matrices (of the experts that a token goes through), text rows,
    tower, projector, head. Attention is counted over the whole square, as papers and torch's
    counter do; a causal kernel skips up to half of it. A row of a sliding layer attends to a window
    at most. Not counted: norms, rotations, pooling, embeddings, and a strategy's own arithmetic,
    which its time has.
    """
    text = config.get_text_config()
    seen, reach = _rows(work), windows(text)
    steps = work.generated - 1
    at_prefill = [min(rows, window) for rows, window in zip(seen, reach, strict=True)]
    at_step = step_keys(config, work)
    tower, projector = _vision(config, work)
    probe = _probe(guide or config, work)
    if guide is not None:
        # an assistant looks at the frames itself, or through a tower that equals its own
        own_tower, own_projector = _vision(guide, replace(work, tower=()))
        probe += own_projector + (0 if work.shares_tower else own_tower)
    head = text.hidden_size * text.vocab_size
    return Exact(
        tower=tower,
        projector=projector,
        probe=probe,
        prefill=_layers(text, seen, at_prefill),
        lm_head=work.generated * head,
        decode=steps * _layers(text, [1] * len(at_step), at_step),
    )


def skipped(config: PreTrainedConfig, work: Work) -> Number:
    """Multiply-adds of the prefill in `exact` that a causal kernel need not do.

    Those of queries and keys that come later than they.
    """
    text = config.get_text_config()
    (q, _), seen = widths(text), zip(_rows(work), windows(text), strict=True)
    return 2 * q * sum(rows * min(rows, window) - pairs(rows, window) for rows, window in seen)


def step_keys(config: PreTrainedConfig, work: Work) -> list[Number]:
    """Rows that each layer reads in a decoding step, its own included: mean over steps."""
    steps, reach = work.generated - 1, windows(config.get_text_config())
    seen = zip(work.decode, reach, strict=True)
    return [keys_of_a_step(work.text + rows, steps, window) for rows, window in seen]


def cached_row(config: PreTrainedConfig) -> int:
    """Numbers that one layer of the language model keeps of one row: its key and its value."""
    return 2 * widths(config.get_text_config())[1]


def _rows(work: Work) -> list[Number]:
    """Of each layer at prefill, text included."""
    return [work.text + rows for rows in work.layers]


def _layers(text: PreTrainedConfig, rows: Sequence[Number], keys: Sequence[Number]) -> Number:
    """All decoder layers, or the first of them: the rows of each, and what each of these reads."""
    pairs = enumerate(zip(rows, keys, strict=True))
    return sum(_layer(text, layer, own, read) for layer, (own, read) in pairs)


def _layer(text: PreTrainedConfig, layer: int, rows: Number, keys: Number) -> Number:
    """One decoder layer over `rows` rows that each attend to `keys`."""
    d, (q, kv) = text.hidden_size, widths(text)
    products = 2 * d * q + 2 * d * kv + _feed_forward(text, layer)
    return rows * products + 2 * rows * keys * q


def _feed_forward(text: PreTrainedConfig, layer: int) -> int:
    """One row through a gated network, or through a router and the experts that it chooses."""
    d, experts = text.hidden_size, getattr(text, "num_experts", 0)
    dense = layer in (getattr(text, "mlp_only_layers", None) or ())
    if not experts or dense or (layer + 1) % text.decoder_sparse_step:
        return 3 * d * text.intermediate_size
    return d * experts + 3 * d * text.num_experts_per_tok * text.moe_intermediate_size


def _probe(config: PreTrainedConfig, work: Work) -> Number:
    """Whole layers of the guide below the last one requested; of that, queries, keys and values."""
    if not work.probe_layers:
        return 0
    text, rows = config.get_text_config(), work.text + work.probed
    (q, kv), below = widths(text), windows(text)[: work.probe_layers - 1]
    whole = _layers(text, [rows] * len(below), [min(rows, window) for window in below])
    return whole + rows * text.hidden_size * (q + 2 * kv)


def _vision(config: PreTrainedConfig, work: Work) -> tuple[int, int]:
    """The tower and the projector."""
    vision = config.vision_config
    grid = work.grid or own_grid(vision)
    tower = Tower.of(vision)
    encoded = work.images * tower.encode(grid)
    if work.tower:
        encoded = tower.shrunk(work.images, grid, work.tower)
    return encoded, work.images * project(config, grid)
