"""`check_adapter`: the laws that a model family's adapter has to keep, on one of its models."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune import compat, registry
from tokenprune.adapters import VideoLLM, adapt, families
from tokenprune.errors import TokenpruneError
from tokenprune.loading.checkpoint import load
from tokenprune.loading.device import threads
from tokenprune.runtime.session import attach
from tokenprune.sequence import TEXT
from tokenprune.strategy import Pipeline, TowerReader, VisionStage
from tokenprune.testing.law import Finding, applies, holds, law, tried
from tokenprune.testing.live import LIVE, Trial, answer, close, eager, half
from tokenprune.testing.models import Live, writer
from tokenprune.testing.prompts import Inputs, Prompts, asked
from tokenprune.testing.report import Report, together
from tokenprune.tokens import Signals, VisualTokens

# a vision stage, a prefill stage, one that reads the tower, a decode stage, a guide
SPECS = ("uniform", "fastv", "visionzip", "dycoke", "uniform+dytok")
LARGE = 200_000_000  # parameters of a model that is not copied
# of the language model; what else is not None goes with rows in a way of the family's own
ROWS = {"inputs_embeds", "attention_mask", "position_ids"}
PLAIN = {
    *compat.CACHE,
    "use_cache",
    "cache_position",
    "return_dict",
    "input_ids",
    "logits_to_keep",
}


def check_adapter(
    model: VideoLLM | Any | str,
    *,
    prompts: Prompts | None = None,
    strategies: Sequence[str] = SPECS,
    show: bool = True,
) -> Report:
    """Holds the adapter of a model to every law, prints a report and returns it.

    `model` is a model of the family (a small random one does), its adapter, or the name of a
    checkpoint. `prompts` are a padded batch of video prompts and its samples alone; without them
    they are made as the family's `preparation` says, in a checkpoint's own words if it has a name.
    Under each of `strategies` the model has to keep the laws that a strategy keeps on one.

    Raises BrokenLawsError (an AssertionError) that lists what is broken, after the report was
    printed.
    """
    if isinstance(model, str):
        loaded, processor = load(model, device="cpu", dtype="float32")
        adapter, prompts = adapt(loaded), prompts or asked(processor)
    else:
        adapter = model if isinstance(model, VideoLLM) else adapt(model)
    prompts = prompts or writer(adapter).prompts()
    findings: list[Finding] = []
    with threads(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that images pass through
        findings += [tried("adapter", one, adapter, [prompts]) for one in LAWS]
        for spec in strategies:
            findings += _under(spec, adapter, prompts)
    name = f"{adapter.model_type} ({type(adapter).__name__})"
    return together(name, findings).settled(show)


def _under(spec: str, adapter: VideoLLM, prompts: Prompts) -> Iterator[Finding]:
    """The laws of strategies on models, under one of ours."""
    pipeline = registry.build(spec, _layers(adapter, spec))
    trial = Trial(pipeline, Live(adapter.model_type, adapter.model, prompts))
    for one in LIVE:
        if one not in (eager, half):
            yield tried(f"under {spec}", one, adapter, [trial])


@dataclass(frozen=True)
class Seen(VisionStage, TowerReader):
    """Leaves all tokens, or two of three, and remembers what there was."""

    wanted: Signals = Signals()  # noqa: RUF009  a tuple
    thin: bool = False
    tokens: list[VisualTokens] = field(default_factory=list)

    def signals(self) -> Signals:
        return self.wanted

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return torch.bincount(tokens.frame[self._left(tokens)], minlength=tokens.frames)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        self.tokens.append(tokens)
        return tokens[self._left(tokens)]

    def _left(self, tokens: VisualTokens) -> Tensor:
        place = torch.arange(len(tokens), device=tokens.frame.device)
        return place % 3 != 1 if self.thin else place >= 0


@law("its family is registered under the model's model_type")
def registered(adapter: Any, _: Any) -> None:
    kind = adapter.model.config.model_type
    holds(adapter.model_type == kind, f"declares {adapter.model_type!r}, the model is {kind!r}")
    holds(kind in families(), f"{kind!r} is not registered: write model_type={kind!r}")
    holds(families()[kind] is type(adapter), f"{kind!r} is {families()[kind].__name__}'s")


@law("the parts it names are the model's")
def parts(adapter: Any, _: Any) -> None:
    inside = {*adapter.model.modules()}
    holds(all(part in inside for part in adapter.modules()), "names parts that are not the model's")
    depth = adapter.text_config.num_hidden_layers
    holds(adapter.depth == depth, f"sees {adapter.depth} layers where the model has {depth}")


@law("a placeholder is found by its token id and by its embedding")
@torch.no_grad()
def placeholders(adapter: Any, prompts: Prompts) -> None:
    ids = prompts.batch["input_ids"]
    found = adapter.placeholders(ids, None)
    holds(found.any(1).all(), "finds no video in a prompt that has one")
    embeds = adapter.model.get_input_embeddings()(ids)
    holds(torch.equal(adapter.placeholders(None, embeds), found), "embeddings say other rows")


@law("every cell of every frame is one row, in raster order")
def cells(adapter: Any, prompts: Prompts) -> None:
    stage = Seen()
    report = answer(Pipeline((stage,)), adapter.model, prompts.batch).reports
    videos = [video for sample in report for video in sample.videos]
    holds(len(stage.tokens) >= len(videos) > 0, f"saw {len(stage.tokens)} of {len(videos)} videos")
    for tokens, video in zip(stage.tokens, videos, strict=False):
        expected = torch.arange(video.cells).repeat(video.frames)
        frame = torch.arange(video.frames).repeat_interleave(video.cells)
        whole = torch.equal(tokens.slot.cpu(), expected) and torch.equal(tokens.frame.cpu(), frame)
        holds(whole, f"rows are not {video.frames} frames of {video.cells} cells in raster order")


@law("what is read of the tower lies on the cells, and differs between them")
def tower(adapter: Any, prompts: Prompts) -> None:
    read: list[Signals] = []
    for wanted in _signals(adapter):
        stage = Seen(wanted)
        try:
            adapter.check_signals(wanted, "the kit")
            with _refused():
                answer(Pipeline((stage,)), adapter.model, prompts.batch)
        except TokenpruneError:  # it says that its tower has none
            continue
        for tokens in stage.tokens:
            _check_read(tokens, wanted)
        read.append(wanted)
    applies(read, "its tower gives nothing to read")


def _check_read(tokens: VisualTokens, wanted: Signals) -> None:
    """Whatever of a tower was asked for, of each token."""
    for name in ("saliency", "keys", "tower"):
        part, said = getattr(tokens, name), f"{name}={getattr(wanted, name)!r}"
        if getattr(wanted, name) is None:
            continue
        holds(part is not None, f"{said} was not recorded")
        holds(len(part) == len(tokens), f"{said} has {len(part)} rows for {len(tokens)} tokens")
        holds(part.isfinite().all(), f"{said} is not finite")
        by_cell = part.float().unflatten(0, (tokens.frames, tokens.cells))
        holds(tokens.cells == 1 or by_cell.std(1).sum() > 0, f"{said} is the same for all cells")
        holds(name != "saliency" or (part >= 0).all(), f"{said} is negative")


def _signals(adapter: Any) -> Iterator[Signals]:
    yield from (Signals(saliency=kind) for kind in adapter.saliency())
    yield from (Signals(keys="head_mean"), Signals(keys="full"), Signals(tower="projector_input"))


@contextmanager
def _refused() -> Iterator[None]:
    """A refusal inside an answer, as what it is."""
    try:
        yield
    except AssertionError as error:
        if isinstance(error.__cause__, TokenpruneError):
            raise error.__cause__ from None
        raise


@law("without a strategy it is the stock model, bit for bit")
@torch.no_grad()
def stock(adapter: Any, prompts: Prompts) -> None:
    model, batch = adapter.model, prompts.batch
    expected = model(**batch).logits
    with attach(model, "none"):
        holds(torch.equal(model(**batch).logits, expected), "attach(model, 'none') changes answers")


@law("with all tokens kept it is the stock model")
@torch.no_grad()
def everything(adapter: Any, prompts: Prompts) -> None:
    model, batch = adapter.model, prompts.batch
    expected = model(**batch).logits[:, -1]
    for spec, options in (("uniform", {"uniform.keep": 1.0}), ("fastv", {"fastv.drop": 0.0})):
        with attach(model, spec, {**options, **_layers(adapter, spec)}) as session:
            found = model(**batch).logits[:, -1]
        holds(close(found, expected), f"{spec} keeps all tokens, and the model answers otherwise")
        ratios = [sample.layer_average_ratio for sample in session.report]
        holds(all(ratio == 1.0 for ratio in ratios), f"{spec} keeps all, the report says {ratios}")


def _layers(adapter: VideoLLM, spec: str) -> dict[str, Any]:
    """The first layer that a strategy can act before: the one below sees all rows."""
    full = [layer for layer in range(1, adapter.depth) if adapter.window(layer - 1) is None]
    return {f"{spec}.layer": full[0]} if spec in ("fastv", "dycoke") and full else {}


@law("tokens that are taken out are gone, and nothing else is")
@torch.no_grad()
def gone(adapter: Any, prompts: Prompts) -> None:
    plain = all(adapter.window(layer) is None for layer in range(adapter.depth))
    applies(plain, "has layers that see a window of rows")
    model, inputs = adapter.model, prompts.alone[0]
    given = _given(adapter, inputs)
    own = sorted(name for name, value in given.items() if name not in ROWS | PLAIN and _kept(value))
    applies(not own, f"its language model takes {', '.join(own)} beside rows")
    applies(adapter.blocks(inputs) is None, "rows of an image see each other")
    thin = Pipeline((Seen(thin=True),))
    with attach(model, thin) as session:
        found = model(**inputs).logits[:, -1]
    videos = session.report[0].videos
    applies(all(adapter.lines(video) is None for video in videos), "rows of a line go with it")
    pattern = torch.from_numpy(np.concatenate([adapter.pattern(video) for video in videos]))
    placeholder = adapter.placeholders(inputs["input_ids"], None)[0].nonzero().squeeze(-1)
    visual = placeholder[pattern != TEXT]
    left = torch.ones(inputs["input_ids"].shape[1], dtype=torch.bool)
    left[visual[torch.arange(len(visual)) % 3 == 1]] = False
    rows = left.nonzero().squeeze(-1)
    sent = {"inputs_embeds": given["inputs_embeds"][:, rows], "use_cache": False}
    positions = given.get("position_ids")
    if adapter.positions == "original":
        whole = torch.arange(len(left))[None] if positions is None else positions
        sent["position_ids"] = whole[..., rows]
    hidden = adapter.language_model(**sent).last_hidden_state
    expected = model.lm_head(hidden[:, -1])
    holds(close(found, expected), "without some tokens it answers otherwise than on the others")


def _kept(value: Any) -> bool:
    return value is not None and value is not False and value is not True and value != {}


def _given(adapter: Any, inputs: Inputs) -> dict[str, Any]:
    """What the language model is called with for a prompt."""
    seen: list[dict[str, Any]] = []

    def spy(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(dict(kwargs))

    handle = adapter.language_model.register_forward_pre_hook(spy, with_kwargs=True)
    try:
        adapter.model(**inputs, use_cache=False)
    finally:
        handle.remove()
    return seen[0]


@law("as an assistant it weighs frames as the model itself does")
def assistant(adapter: Any, prompts: Prompts) -> None:
    size = sum(part.numel() for part in adapter.model.parameters())
    applies(size <= LARGE, f"has {size:,} parameters, too many to copy")
    other = copy.deepcopy(adapter.model)
    found: list[Any] = []
    for helper in (None, other):
        with attach(adapter.model, "uniform+dytok", assistant=helper) as session:
            adapter.model.generate(**prompts.alone[0], max_new_tokens=1, do_sample=False)
        found.append(session.report[0])
    weights = [torch.tensor(report.frame_weights) for report in found]
    holds(torch.allclose(*weights, rtol=1e-3, atol=1e-5), "its copy weighs frames otherwise")


LAWS = (registered, parts, placeholders, cells, tower, stock, everything, gone, assistant)
