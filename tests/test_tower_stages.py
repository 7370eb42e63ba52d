"""Stages inside the vision tower, on every family: beside the definition, written out once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import models
import pytest
import torch
from families import FAMILIES, Ask
from torch import Tensor

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.bipartite import match
from tokenprune.errors import StrategyError, TokenpruneError, UnsupportedGenerationError
from tokenprune.runtime.session import attach
from tokenprune.runtime.tower_report import TowerShare
from tokenprune.strategy import Pipeline, TowerMerger, TowerReuser

WHOLE = [name for name in FAMILIES if not name.startswith("qwen")]
R = 2
PACKED = [name for name in FAMILIES if name.startswith("qwen")]
TOME = {"tome.r": R}


def shares_of(session: Any) -> list[TowerShare]:
    """What the tower did for each sample with a video in the last prompt."""
    return [one.tower for one in session.report.samples if one is not None]


def features(model: Any, inputs: Any) -> Tensor:
    """What the projector is given for the frames of a call."""
    adapter, seen = adapt(model), []
    handle = adapter.projector.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    return torch.cat(seen)


def encoded(model: Any, inputs: Any) -> list[Tensor]:
    """Every hidden state of the tower, as it would be without a stage."""
    tower, seen = adapt(model).tower, []
    handle = tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append({**kwargs, "args": args}), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    pixels = seen[0].get("pixel_values", (*seen[0]["args"], None)[0])
    return [pixels]


@torch.no_grad()
def by_hand(model: Any, pixels: Tensor) -> list[Tensor]:
    """Hidden states of all layers under ToMe, spread to the grid: the paper's block, line by line.

    What the tower does beside its layers is the stock model's.
    """
    adapter = adapt(model)
    first = int(adapter.cls)
    layers: Any = adapter.tower_blocks
    entered: list[Tensor] = []
    handle = layers[0].layer.register_forward_pre_hook(lambda m, args: entered.append(args[0]))
    adapter.tower(pixels)
    handle.remove()
    x = entered[0]
    size = torch.ones(x.shape[:2])
    standing = torch.arange(x.shape[1]).expand(len(x), -1)
    states = [x]
    keys: list[Tensor] = []
    for block in layers:
        spy = block.attention.k_proj.register_forward_hook(lambda m, a, out: keys.append(out))
        before = getattr(block.layer, "layer_norm1", None) or block.layer.layernorm_before
        attended = block.attention(before(x), attention_mask=size.log()[:, None, None])[0]
        spy.remove()
        scale = getattr(block.layer, "lambda_1", 1.0), getattr(block.layer, "lambda_2", 1.0)
        x = x + scale[0] * attended
        heads = adapter.tower.config.num_attention_heads
        group = match(keys[-1].unflatten(-1, (heads, -1)).mean(2), R, first)
        of = torch.nn.functional.one_hot(group).mT.float()
        x = of @ (x * size[..., None]) / (of @ size[..., None])
        size = (of @ size[..., None]).squeeze(-1)
        x = x + scale[1] * block.mlp(block.norm(x))
        standing = group.gather(1, standing)
        states.append(x.take_along_dim(standing[..., None], 1))
    return states


@pytest.mark.parametrize("name", WHOLE)
def test_tome_is_the_papers_block(name: str) -> None:
    family = FAMILIES[name]
    model, prompt = family.model(), family.prompt()
    (pixels,) = encoded(model, prompt.inputs)
    expected = by_hand(model, pixels)
    tower = adapt(model).tower
    seen: list[Any] = []
    with attach(model, "tome", TOME) as session, torch.no_grad():
        handle = tower.register_forward_hook(lambda module, args, output: seen.append(output))
        model(**prompt.inputs)
        handle.remove()
        shares = shares_of(session)
    # where the model asks for one, that is recorded and the others are not
    states = seen[0].get("hidden_states") or ()
    found = [(number, part) for number, part in enumerate(states) if part is not None]
    for number, part in found:
        torch.testing.assert_close(part, expected[number], rtol=1e-4, atol=1e-4)
    assert seen[0].last_hidden_state.shape == expected[-1].shape
    rows = expected[0].shape[1]
    for share in shares:
        frames = share.full // rows
        assert [layer.rows for layer in share.layers] == [
            frames * (rows - R * layer) for layer in range(len(share.layers))
        ]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("spec", ["tome", "reuse"])
def test_nothing_removed_is_nothing_changed(name: str, spec: str) -> None:
    family = FAMILIES[name]
    model, (prompt, *_) = family.model(), family.prompt().alone
    with torch.no_grad():
        expected = model(**prompt).logits
        with attach(model, spec, {"tome.r": 0} if spec == "tome" else {}):
            found = model(**prompt).logits
        assert "_tokenprune" not in str(vars(adapt(model).body).keys())
        assert torch.equal(model(**prompt).logits, expected)
    torch.testing.assert_close(found, expected)


def still(name: str, frames: int = 4, attention: str = "sdpa") -> tuple[Any, Any, str]:
    """A model, and a prompt in whose video every frame is the first one."""
    family = FAMILIES[name]
    clip = family.clips[0]._replace(frames=frames)
    model, inputs = family.model(attention), dict(family.prompt([Ask(3, (clip,), 4)]).inputs)
    pixels = "pixel_values_videos" if "pixel_values_videos" in inputs else "pixel_values"
    values = inputs[pixels].clone()
    every = values.flatten(0, 1) if values.ndim == 5 else values
    every[:] = every[:1].clone()
    return model, {**inputs, pixels: values}, pixels


@pytest.mark.parametrize("name", WHOLE)
def test_frames_that_stand_still_go_through_once_and_are_exact(name: str) -> None:
    model, inputs, _ = still(name)
    expected = features(model, inputs)
    with attach(model, "reuse") as session:
        found = features(model, inputs)
        share = session.report[0].tower
    torch.testing.assert_close(found, expected)
    assert share is not None
    assert share.ratio == 1 / 4


def test_what_stays_still_is_taken_and_what_moves_sees_all_of_its_frame() -> None:
    """Beside attention written out: keys and values of a patch that skips are the other's."""
    model, inputs, pixels = still("llava_onevision", 3)
    values = inputs[pixels]
    values[0, 1:, :, :8, :16] += 1.0  # two patches of six in the first row, in frames 1 and 2
    values[0, 2, :, 8:16, :8] -= 1.0
    adapter = adapt(model)
    entered: list[Tensor] = []
    blocks: Any = adapter.tower_blocks
    handle = blocks[0].layer.register_forward_pre_hook(lambda m, args: entered.append(args[0]))
    with torch.no_grad():
        adapter.tower(values.flatten(0, 1))
    handle.remove()
    x = entered[0]
    moved = torch.zeros(3, 36, dtype=torch.bool)
    moved[0] = True
    moved[1, :2] = True
    moved[2, 6] = True
    with torch.no_grad():
        for block in blocks:
            normed = block.layer.layer_norm1(x)
            # of a patch that stands still, the row of the frame before stands for it
            for frame in (1, 2):
                normed[frame] = torch.where(moved[frame][:, None], normed[frame], normed[frame - 1])
                x[frame] = torch.where(moved[frame][:, None], x[frame], x[frame - 1])
            x = x + block.attention(normed)[0]
            x = x + block.mlp(block.norm(x))
            for frame in (1, 2):
                x[frame] = torch.where(moved[frame][:, None], x[frame], x[frame - 1])
    with attach(model, "reuse") as session:
        found = features(model, inputs)
        share = session.report[0].tower
    torch.testing.assert_close(found, x)
    assert share is not None
    assert {layer.rows for layer in share.layers} == {36 + 2 + 1}
    assert {layer.pairs for layer in share.layers} == {39 * 36}


def test_a_video_does_not_take_from_the_one_before_it_in_a_batch() -> None:
    """The law of batches, where it would show: both begin with the same still frame."""
    model, inputs, _ = still("llava_onevision", 2)
    batch = {name: torch.cat([part, part]) for name, part in inputs.items()}
    with torch.no_grad(), attach(model, "reuse") as session:
        model(**batch)
        assert [share.ratio for share in shares_of(session)] == [1 / 2, 1 / 2]
        model(**inputs)
        assert [share.ratio for share in shares_of(session)] == [1 / 2]


BEHIND = {
    "visionzip": {},
    "prumerge": {},
    "dycoke": {"dycoke.layer": 2},
    "fastv": {"fastv.layer": 2},
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("inside", ["tome", "reuse"])
def test_they_compose_with_what_comes_behind(inside: str, behind: str) -> None:
    model, inputs, _ = still("llava_onevision")
    options = BEHIND[behind]
    own = TOME if inside == "tome" else {}
    with torch.no_grad(), attach(model, f"{inside}+{behind}", {**own, **options}) as session:
        model.generate(**inputs, max_new_tokens=3)
    with torch.no_grad(), attach(model, behind, options) as other:
        model.generate(**inputs, max_new_tokens=3)
    assert session.report[0].kept == other.report[0].kept
    assert session.report[0].tower is not None
    assert other.report[0].tower is None
    assert "tower" in session.report[0].as_dict()


def test_signals_of_merged_rows_are_those_of_the_grid() -> None:
    """A merged row's keys for all its patches; attention as if every patch were still there."""
    family = FAMILIES["llava_onevision"]
    model, (inputs, *_) = family.model(), family.prompt().alone
    taken: dict[str, Any] = {}
    with torch.no_grad():
        for spec in ("visionzip", "tome+visionzip"):
            options = TOME if "tome" in spec else {}
            with attach(model, spec, options) as session:
                model(**inputs)
                taken[spec] = [len(slots) for slots in session.report[0].slots]
    assert taken["visionzip"] == taken["tome+visionzip"]


@pytest.mark.parametrize("name", PACKED)
def test_towers_over_packed_patches_refuse(name: str) -> None:
    model = FAMILIES[name].model()
    for spec in ("tome", "reuse"):
        with pytest.raises(StrategyError, match="takes the patches of all frames as one row"):
            attach(model, spec)


def test_frames_of_several_samples_in_one_row_refuse() -> None:
    family = FAMILIES["internvl"]
    model, prompt = family.model(), family.prompt()
    with torch.no_grad(), attach(model, "reuse"):
        with pytest.raises(UnsupportedGenerationError, match="one video at a time"):
            model(**prompt.inputs)
        model(**prompt.alone[0])


def test_two_stages_inside_the_tower_refuse() -> None:
    with pytest.raises(StrategyError, match="both work inside the tower"):
        registry.build("tome+reuse")


def test_more_than_a_tower_has_is_refused_before_anything_runs() -> None:
    model = models.llava_onevision()
    with pytest.raises(StrategyError, match=r"tome\.r=15 merges 15 of 21 rows in tower layer 1"):
        attach(model, "tome", {"tome.r": 15})


def test_gradients_flow_through_merged_rows() -> None:
    model, inputs, pixels = still("llava_onevision")
    values = inputs[pixels].clone().requires_grad_()
    with attach(model, "tome", TOME):
        model(**{**inputs, pixels: values}).logits.sum().backward()
    assert values.grad is not None
    assert values.grad.abs().sum(dim=(2, 3, 4)).gt(0).all()


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
def test_a_checkpointed_tower_refuses() -> None:
    model = models.llava_onevision().train()
    model.gradient_checkpointing_enable()
    inputs = dict(FAMILIES["llava_onevision"].prompt().inputs)
    with attach(model, "tome", TOME), pytest.raises(TokenpruneError, match="checkpointing"):
        model(**inputs)


def test_session_encode_looks_once() -> None:
    model, inputs, pixels = still("llava_onevision")
    with torch.no_grad(), attach(model, "reuse") as session:
        seen = session.encode(**{pixels: inputs[pixels]})
        rest = {name: part for name, part in inputs.items() if name != pixels}
        model.generate(**rest, **seen, max_new_tokens=2)
        assert session.report[0].tower is not None


@dataclass(frozen=True)
class _Wrong(TowerMerger):
    said: Any = None
    remove: Any = 1

    def removed(self, layers: int, rows: int, first: int) -> tuple[int, ...]:
        return (self.remove,) * layers

    def group(self, keys: Tensor, remove: int, first: int) -> Tensor:
        return self.said(keys)


def _uniform(keys: Tensor) -> Tensor:
    return torch.zeros(keys.shape[:2], dtype=torch.long)


WRONG = [
    (_Wrong(_uniform, -1), "removed returned"),
    (_Wrong(lambda keys: keys), "group returned float32"),
    (_Wrong(lambda keys: _uniform(keys)[:, 1:]), "group returned int64"),
    (_Wrong(_uniform), "left group 1 of 35 empty"),
    (_Wrong(lambda keys: _uniform(keys) + 99), "returned 99 to 99 for 35 groups"),
]


@pytest.mark.parametrize(("stage", "said"), WRONG)
def test_a_broken_promise_names_the_method(stage: Any, said: str) -> None:
    model, inputs, _ = still("llava_onevision")
    with pytest.raises(StrategyError, match=said), attach(model, Pipeline((stage,))):
        model(**inputs)


def _takes(marks: Any) -> Any:
    @dataclass(frozen=True)
    class Odd(TowerReuser):
        def taken(self, patches: Tensor) -> Tensor:
            return marks(patches)

    return Odd()


def test_a_reuser_takes_nothing_in_the_first_frame() -> None:
    model, inputs, _ = still("llava_onevision")
    odd = _takes(lambda patches: torch.ones(patches.shape[:2], dtype=torch.bool))
    with (
        pytest.raises(StrategyError, match="marked patches of the first frame"),
        attach(model, Pipeline((odd,))),
    ):
        model(**inputs)
    odd = _takes(lambda patches: patches)
    with (
        pytest.raises(StrategyError, match="taken returned float32"),
        attach(model, Pipeline((odd,))),
    ):
        model(**inputs)


def test_nothing_is_left_after_an_exception() -> None:
    model, inputs, _ = still("llava_onevision")

    def fail(*_: Any) -> None:
        raise RuntimeError("here")

    with torch.no_grad():
        expected = model(**inputs).logits
        with attach(model, "tome", TOME) as session:
            handle = adapt(model).tower_blocks[1].mlp.register_forward_pre_hook(fail)
            with pytest.raises(RuntimeError, match="here"):
                model(**inputs)
            handle.remove()
            model(**inputs)
            assert session.report[0].tower is not None
        assert torch.equal(model(**inputs).logits, expected)
