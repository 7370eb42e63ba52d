"""What the wider contract adds, against the forward pass that is written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import handbuilt
import pytest
import torch
import towers
from families import ALL, FAMILIES, Ask, Family, Prompt
from family_stages import Hide, frames_of, mixed, thinned
from handbuilt import Removal
from test_families import check, generated
from torch import Tensor

from tokenprune import attach
from tokenprune.errors import StrategyError, UnsupportedGenerationError
from tokenprune.sequence import SequenceView, Survivors
from tokenprune.strategies.visionzip import core, split
from tokenprune.strategy import Condenser, Pipeline, PrefillStage, TowerReader
from tokenprune.tokens import Signals, VisualTokens

everyone = pytest.mark.parametrize("family", ALL, ids=[family.model_type for family in ALL])
whole = [family for family in ALL if family.model_type != "gemma3"]
wholly = pytest.mark.parametrize("family", whole, ids=[family.model_type for family in whole])


@dataclass(frozen=True)
class Twice(PrefillStage):
    """Leaves two of three visual rows, again at every layer it is told."""

    at: tuple[int, ...] = (1, 2)

    def layers(self, depth: int) -> tuple[int, ...]:
        return self.at

    def quota(self, view: SequenceView) -> Tensor:
        return torch.bincount(view.frame[view.visual & thinned(view.visual)], minlength=view.frames)

    def prune(self, view: SequenceView, budget: Tensor) -> Any:
        return thinned(view.visual)


@dataclass(frozen=True)
class Forgetful(Twice):
    forgets: ClassVar[bool] = True


@dataclass(frozen=True)
class Renumbered(Twice):
    positions: ClassVar[Any] = "contiguous"


@dataclass(frozen=True)
class Merging(Twice):
    """Rows become half of the row before them, and go on in reverse if asked."""

    reverse: bool = False

    def prune(self, view: SequenceView, budget: Tensor) -> Any:
        rows = thinned(view.visual).nonzero().squeeze(-1)
        hidden = view.hidden.clone()
        visual = view.visual.nonzero().squeeze(-1)
        hidden[visual] = mixed(view.hidden[visual])
        if self.reverse:
            places = view.visual[rows]
            rows[places] = rows[places].flip(0)
        return Survivors(rows, hidden[rows])


@dataclass(frozen=True)
class Reads(PrefillStage):
    """Writes down everything that a view offers, and keeps all rows."""

    layer: int = 1
    views: list[dict[str, Any]] = field(default_factory=list, hash=False)

    def quota(self, view: SequenceView) -> Tensor:
        return view.counts

    def prune(self, view: SequenceView, budget: Tensor) -> Tensor:
        last = torch.tensor([len(view.frame) - 1])
        behind = view.behind.nonzero().squeeze(-1)
        self.views.append(
            {
                "attention": view.attention,
                "again": view.attend(last),
                "mean": view.attend(behind),
                "alone": torch.stack([view.attend(row[None]) for row in behind]),
                "largest": view.attend(view.behind, "max"),
                "hidden": view.hidden,
                "normed": view.normed,
                "keys": view.keys,
                "inputs": view.inputs,
                "behind": behind,
                "position": view.position,
                "seen": view.seen,
                "slot": view.slot,
                "frame": view.frame,
                "cells": view.cells,
            }
        )
        return torch.ones_like(view.visual)


def twice(
    prompt: Prompt, at: tuple[int, ...], reverse: bool = False, **more: Any
) -> Callable[[int], Removal]:
    """Of each sample, what is left where two of three visual rows go, again and again."""

    def removal(number: int) -> Removal:
        frame = frames_of(prompt, number)
        here, rows = torch.arange(len(frame)), {}
        for layer in at:
            # in a view frames stand in order whatever went on how
            here = here.sort().values
            here = here[thinned(frame[here] >= 0)]
            if reverse:
                visual = frame[here] >= 0
                here[visual] = here[visual].flip(0)
            rows[layer] = here
        return Removal(rows, **more)

    return removal


def asked(family: Family) -> tuple[Any, Prompt]:
    asks = [Ask(4, (family.clips[0],), 5), Ask(1, (family.clips[1],), 4)]
    return family.model("sdpa"), family.prompt(asks)


def gone(prompt: Prompt, number: int, rows: Tensor) -> Tensor:
    """Rows of a sample that are not among `rows`."""
    lost = torch.ones(len(frames_of(prompt, number)), dtype=torch.bool)
    lost[rows] = False
    return lost.nonzero().squeeze(-1)


@everyone
def test_a_stage_at_several_layers(family: Family) -> None:
    model, prompt = asked(family)
    early, late = family.layers
    with attach(model, Pipeline((Twice((early, late)),))) as session:
        answer = generated(model, prompt)
    check(model, family, prompt, answer, twice(prompt, (early, late)))
    report = session.report[0]
    assert [stage.layer for stage in report.stages] == [early, late]
    assert report.layers[early - 1] == report.full > report.layers[early] > report.layers[late]


@everyone
def test_an_event_that_keeps_everything_opens_no_layout(family: Family) -> None:
    model, prompt = asked(family)
    stage = Reads(family.layers[0])
    with attach(model, Pipeline((stage,))) as session:
        answer = generated(model, prompt)
    assert torch.equal(answer[1], generated(model, prompt)[1]), "the stock model's, bit for bit"
    assert set(session.report[0].layers) == {session.report[0].full}


@everyone
@pytest.mark.parametrize("reverse", [False, True])
def test_rows_that_become_others(family: Family, reverse: bool) -> None:
    """Hidden states go on as the stage has made them, in its order and at their own positions."""
    model, prompt = asked(family)
    early, late = family.layers
    with attach(model, Pipeline((Merging((early, late), reverse),))) as session:
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample, frame = handbuilt.whole(model, family, inputs), frames_of(prompt, number)

        def becomes(rows: Tensor, hidden: Tensor, frame: Tensor = frame) -> Tensor:
            visual = (rows < len(frame)).nonzero().squeeze(-1)
            visual = visual[frame[rows[visual]] >= 0]
            visual = visual[rows[visual].argsort()]
            hidden = hidden.clone()
            hidden[visual] = mixed(hidden[visual])
            return hidden

        removal = twice(prompt, (early, late), reverse, becomes=becomes)(number)
        with torch.no_grad():
            expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < handbuilt.ROUNDING
    assert all(stage.merged for stage in session.report[0].stages)
    assert session.report[0].merged


@wholly
@pytest.mark.parametrize("hiding", [False, True])
def test_layers_below_forget(family: Family, hiding: bool) -> None:
    """Words see in every layer what the last event left; the prompt went through whole."""
    model, prompt = asked(family)
    early, late = family.layers
    at = (early,) if hiding else (early, late)
    stages = (Forgetful(at), Hide(late)) if hiding else (Forgetful(at),)
    with attach(model, Pipeline(stages)) as session:
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample, frame = handbuilt.whole(model, family, inputs), frames_of(prompt, number)
        rows = twice(prompt, at)(number).rows
        kept = rows[at[-1]]
        unseen = (late, kept[~thinned(frame[kept] >= 0)]) if hiding else None
        removal = Removal(rows, unseen=unseen, forgotten=gone(prompt, number, kept))
        with torch.no_grad():
            expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < handbuilt.ROUNDING
    assert session.report[0].layers[0] == session.report[0].full


def test_layers_with_a_window_cannot_forget() -> None:
    family = FAMILIES["gemma3"]
    with pytest.raises(StrategyError, match="sliding window have forgotten others"):
        attach(family.model("sdpa"), Pipeline((Forgetful((family.layers[0],)),)))


flat = [family for family in ALL if not family.mrope]


@pytest.mark.parametrize("family", flat, ids=[family.model_type for family in flat])
def test_positions_counted_anew_inside_the_model(family: Family) -> None:
    model, prompt = asked(family)
    with attach(model, Pipeline((Renumbered(family.layers),))):
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample = handbuilt.whole(model, family, inputs)
        removal = twice(prompt, family.layers, anew=True)(number)
        with torch.no_grad():
            expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < handbuilt.ROUNDING


def test_three_axes_are_not_counted_anew() -> None:
    family = FAMILIES["qwen2_vl"]
    with pytest.raises(StrategyError, match=r"three \(M-RoPE\)"):
        attach(family.model("sdpa"), Pipeline((Renumbered((1,)),)))


# at the language model's input


@dataclass(frozen=True)
class Halves(Condenser):
    """Every second token of a frame goes into the one before it; reads whatever it is told."""

    positions: ClassVar[Any] = None
    merges: ClassVar[bool] = True

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        place = torch.arange(len(tokens))
        even = tokens.slot % 2 == 0
        kept = tokens[even]
        row = even.cumsum(0) - 1
        members = torch.where(even, row, row.clamp(min=0))
        sums = kept.features.new_zeros(kept.features.shape).index_add(
            0, members, tokens.features[place]
        )
        numbers = torch.bincount(members, minlength=len(kept)).unsqueeze(-1)
        return kept.with_features(sums / numbers, members)


@dataclass(frozen=True)
class Stays(Halves):
    positions: ClassVar[Any] = "original"


def halved(sample: handbuilt.Sample, frame: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings with every second token in the one before it, and the rows that are left."""
    embeds, rows = sample.embeds.clone(), (frame >= 0).nonzero().squeeze(-1)
    odd = slot[rows] % 2 == 1
    gone = rows[odd]
    into = rows[odd.nonzero().squeeze(-1) - 1]
    embeds[into] = (embeds[into] + embeds[gone]) / 2
    left = torch.ones_like(frame, dtype=torch.bool)
    left[gone] = False
    return embeds, left.nonzero().squeeze(-1)


def slots_of(frame: Tensor) -> Tensor:
    """The cell of every visual row, numbered within its frame."""
    slot, seen = torch.zeros_like(frame), {}
    for row, number in enumerate(frame.tolist()):
        slot[row] = seen.get(number, 0)
        seen[number] = int(slot[row]) + 1
    return slot


@pytest.mark.parametrize("family", flat, ids=[family.model_type for family in flat])
@pytest.mark.parametrize("stays", [False, True])
def test_a_condenser(family: Family, stays: bool) -> None:
    """Positions are counted anew behind it, or stay where they were with the text behind them."""
    model, prompt = asked(family)
    with attach(model, Pipeline((Stays() if stays else Halves(),))) as session:
        words, found = generated(model, prompt)
    for number, inputs in enumerate(prompt.alone):
        sample, frame = handbuilt.whole(model, family, inputs), frames_of(prompt, number)
        embeds, left = halved(sample, frame, slots_of(frame))
        removal = Removal({0: left}, embeds=embeds, stays=stays)
        with torch.no_grad():
            expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < handbuilt.ROUNDING
        report = session.report[number]
        (stage,) = report.stages
        assert stage.condensed and stage.merged and stage.budget == stage.after
        sizes = torch.bincount(report.members[0], minlength=report.kept)
        assert int(sizes.sum()) == report.videos[0].tokens
        assert len(sizes) == report.videos[0].frames * -(-report.videos[0].cells // 2)


@torch.no_grad()
@pytest.mark.parametrize("family", flat, ids=[family.model_type for family in flat])
def test_gaps_in_positions_are_no_packed_sequences(family: Family) -> None:
    """A forward pass without mask and cache is what generation begins with."""
    model, prompt = asked(family)
    (inputs, *_) = prompt.alone
    with attach(model, Pipeline((Stays(),))):
        first = model.generate(
            **inputs, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
        ).logits[0]
        bare = {name: part for name, part in inputs.items() if name != "attention_mask"}
        alone = model(**bare, use_cache=False).logits[:, -1]
    assert torch.allclose(first, alone, atol=2e-5)


@dataclass(frozen=True)
class First(Condenser):
    """Drops the second half of the frames."""

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        return tokens[tokens.frame < (tokens.frames + 1) // 2]


def test_provenance_goes_through_all_stages() -> None:
    """Of each uncompressed token the row it went into, whatever was dropped before and after."""
    model, prompt = asked(FAMILIES["llava_onevision"])
    with attach(model, Pipeline((First(), Halves()))) as session:
        generated(model, prompt)
    report = session.report[0]
    video, (members,) = report.videos[0], report.members
    frame = torch.arange(video.frames).repeat_interleave(video.cells)
    slot = torch.arange(video.cells).repeat(video.frames)
    wide = -(-video.cells // 2)
    expected = torch.where(frame < (video.frames + 1) // 2, frame * wide + slot // 2, -1)
    assert torch.equal(members, expected)


EVERYTHING = Signals(text="behind", tower="projector_input", saliency="pseudo_cls")


@dataclass(frozen=True)
class Told(Condenser, TowerReader):
    """Keeps everything, and writes down what it was shown."""

    asks: Signals = EVERYTHING
    tokens: list[VisualTokens] = field(default_factory=list, hash=False)

    def signals(self) -> Signals:
        return self.asks

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        self.tokens.append(tokens)
        return tokens


@everyone
@torch.no_grad()
def test_a_condenser_is_told_the_text_and_what_the_projector_took(family: Family) -> None:
    model, prompt = asked(family)
    told, taken = Told(), []
    with attach(model, Pipeline((told,))) as session:
        projector = session._adapter.projector
        handle = projector.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
        model(**prompt.inputs)
        handle.remove()
    for number, (inputs, tokens) in enumerate(zip(prompt.alone, told.tokens, strict=True)):
        sample, frame = handbuilt.whole(model, family, inputs), frames_of(prompt, number)
        last = int((frame >= 0).nonzero().max())
        ids = inputs["input_ids"][0]
        words = sample.embeds[last + 1 :][ids[last + 1 :] != family.placeholder]
        assert tokens.text is not None and torch.allclose(tokens.text, words, atol=1e-6)
        assert tokens.tower is not None and len(tokens.tower) == len(tokens)
        assert tokens.saliency is not None
        mass = tokens.saliency.unflatten(0, (tokens.frames, -1)).sum(1)
        assert bool((mass < 1.05).all()) and bool((mass > 0.5).all())
    (states,) = taken
    if states.ndim == 2:  # Qwen: four patches to a cell
        cells = states.unflatten(0, (-1, 4)).mean(1)
    elif states.shape[1] == told.tokens[0].cells:  # pooled before the projector
        cells = states.flatten(0, 1)
    else:
        cells = towers.pooled(model, states[:, int(family.model_type == "video_llava") :])
        cells = cells.flatten(0, 1)
    found = torch.cat([tokens.tower for tokens in told.tokens if tokens.tower is not None])
    if family.model_type == "qwen2_5_vl":  # cells come window by window, frame by frame
        counts = [[tokens.cells] * tokens.frames for tokens in told.tokens]
        frames = [number for own in counts for number in own]
        cells, found = (
            torch.stack([part.mean(0) for part in rows.split(frames)]) for rows in (cells, found)
        )
    assert torch.allclose(found, cells, atol=1e-5)


def test_text_is_not_read_without_a_cache() -> None:
    """The answer's own words would be text behind the video."""
    model, prompt = asked(FAMILIES["llava_onevision"])
    with (
        attach(model, Pipeline((Told(Signals(text="behind")),))),
        pytest.raises(UnsupportedGenerationError, match="without a cache"),
    ):
        generated(model, prompt, use_cache=False)


def test_a_pooling_head_is_refused() -> None:
    model, _ = asked(FAMILIES["llava_onevision"])
    with pytest.raises(StrategyError, match="choose 'received' or 'mean_query' or 'pseudo_cls'"):
        attach(model, Pipeline((Told(Signals(saliency="pooling_head")),)))
    with pytest.raises(StrategyError, match="choose the mean of a frame's tokens"):
        attach(model, Pipeline((Told(Signals(summary="pooling_head")),)))


@pytest.fixture
def cleanup() -> Iterator[list[Any]]:
    """Hooks of a test on a shared model."""
    handles: list[Any] = []
    yield handles
    for handle in handles:
        handle.remove()


@everyone
@torch.no_grad()
def test_a_view_offers_what_the_stock_model_computes(family: Family, cleanup: list[Any]) -> None:
    """Attention of any rows from its maps, hidden states and keys; nothing is made up."""
    _, prompt = asked(family)
    layer = family.layers[1]
    reads, model = Reads(layer), family.model("sdpa")
    with attach(model, Pipeline((reads,))):
        model(**prompt.inputs)
    eager, entered = family.model("eager"), {}
    layers = eager.model.language_model.layers
    for below in (0, layer):

        def note(_: Any, args: Any, kwargs: Any, below: int = below) -> None:
            entered[below] = args[0] if args else kwargs["hidden_states"]

        handle = layers[below].register_forward_pre_hook(note, with_kwargs=True)
        cleanup.append(handle)
    out = eager(**prompt.inputs, output_attentions=True)
    for number, read in enumerate(reads.views):
        real = prompt.inputs["attention_mask"][number].bool()
        maps = out.attentions[layer - 1][number][:, real][:, :, real]
        behind = read["behind"]
        for name, expected in {
            "attention": maps[:, -1].mean(0),
            "again": maps[:, -1].mean(0),
            "mean": maps[:, behind].mean((0, 1)),
            "largest": maps[:, behind].amax((0, 1)),
            "alone": maps[:, behind].mean(0),
            "hidden": entered[layer][number][real],
            "inputs": entered[0][number][real],
            "normed": eager.model.language_model.norm(entered[layer][number][real]),
        }.items():
            assert torch.allclose(read[name], expected, atol=2e-5), (name, number)
        assert read["seen"].tolist() == [int((read["frame"] >= 0).sum())] * layer
        assert read["keys"].shape[0] == int(real.sum())


@torch.no_grad()
@pytest.mark.parametrize("spec", ["visionzip", "visionzip+dytok"])
def test_visionzip_before_pooling(spec: str) -> None:
    """Its core on the tower's own patches, each of what it leaves through the projector."""
    family = FAMILIES["llava_onevision"]
    model, prompt = asked(family)
    options = {"visionzip.keep": 0.5, "visionzip.pooled": False}
    with attach(model, spec, options) as session:
        words, found = generated(model, prompt)
    body = model.model
    for number, inputs in enumerate(prompt.alone):
        sample, frame = handbuilt.whole(model, family, inputs), frames_of(prompt, number)
        states, saliency, keys = patches_of(model, inputs)
        frames, patches = states.shape[:2]
        report = session.report[number]
        (stage,) = report.stages
        every = torch.arange(frames * patches)
        tokens = VisualTokens(
            states.flatten(0, 1), None, None, every // patches, every % patches, frames, patches
        )
        budget = torch.tensor(stage.after)
        zipped = core(
            tokens, saliency.flatten(), keys.flatten(0, 1), *split(budget), "target_plus_mean"
        )
        embeds, left = sample.embeds.clone(), torch.ones_like(frame, dtype=torch.bool)
        rows = (frame >= 0).nonzero().squeeze(-1).unflatten(0, (frames, -1))
        taken = torch.arange(rows.shape[1]) < budget.unsqueeze(-1)
        left[rows[~taken]] = False
        embeds[rows[taken]] = body.multi_modal_projector(zipped.features)
        removal = Removal({0: left.nonzero().squeeze(-1)}, embeds=embeds)
        expected = handbuilt.logits(model, sample, words[number], removal)
        assert float((found[number] - expected).abs().max()) < handbuilt.ROUNDING
        assert report.input_ratio == pytest.approx(0.5, abs=0.51 / report.cells)
        assert all(0 <= slot < report.cells for slots in report.slots for slot in slots)


def patches_of(model: Any, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Of a video's frames, what the projector takes, attention received and head-mean keys."""
    taken, seen = [], {}
    tower = model.model.vision_tower
    attention = tower.encoder.layers[model.config.vision_feature_layer].self_attn
    handles = [
        model.model.multi_modal_projector.register_forward_pre_hook(
            lambda _, args: taken.append(args[0])
        ),
        attention.q_proj.register_forward_hook(lambda _, __, out: seen.update(q=out)),
        attention.k_proj.register_forward_hook(lambda _, __, out: seen.update(k=out)),
    ]
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    query, key = (
        seen[name].unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for name in "qk"
    )
    weights = (query @ key.mT * attention.scale).softmax(-1)
    return taken[0], weights.mean((1, 2)), key.mean(1)


def test_before_pooling_only_where_the_projector_takes_patches() -> None:
    model, _ = asked(FAMILIES["qwen2_vl"])
    with pytest.raises(StrategyError, match="choose the form behind it"):
        attach(model, "visionzip", {"visionzip.pooled": False})
    model, _ = asked(FAMILIES["llava_onevision"])
    with pytest.raises(StrategyError, match=r"before the projector.*keep one of them"):
        attach(model, "visionzip+uniform", {"visionzip.pooled": False})
