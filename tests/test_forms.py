"""Forms that only an ablation of a paper needs: plug-ins beside its tables."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from arbitrary import video
from docstrings import field_docs
from families import FAMILIES
from family_rows import TEXT
from family_stages import Thin
from models import llava_onevision, prompt
from test_families import everywhere
from test_families_reads import full_layers
from torch import Tensor

import tokenprune
from tokenprune import attach, build, registry
from tokenprune.errors import StrategyError
from tokenprune.plugins import load_plugin
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategy import Allocator, Pipeline
from tokenprune.testing import check_strategy
from tokenprune.testing.inputs import TableProbe, table_probe
from tokenprune.tokens import LastRow, Probe, QuestionRows, VisualTokens

PAPERS = Path(tokenprune.__file__).parent / "papers"
FORMS = {
    "dycoke_random": PAPERS / "dycoke/random_choice.py",
    "dytok_all": PAPERS / "dytok/all_query_tokens.py",
    "attention_entropy": PAPERS / "dytok/attention_entropy.py",
    "feature_entropy": PAPERS / "dytok/feature_entropy.py",
    "feature_norm": PAPERS / "dytok/feature_norm.py",
}
ALLOCATORS = [name for name, file in FORMS.items() if file.parent.name == "dytok"]


@pytest.fixture
def forms() -> None:
    for file in FORMS.values():
        load_plugin(str(file))


@pytest.mark.usefixtures("forms")
@pytest.mark.parametrize("name", FORMS)
def test_a_form_keeps_all_laws(name: str) -> None:
    models = ["toy"] if name in ("dycoke_random", "dytok_all") else []
    report = check_strategy(registry.get(name)(), models=models, show=False, cases=12)
    assert len(report.of("passed")) >= 7


@pytest.mark.usefixtures("forms")
@pytest.mark.parametrize("name", FORMS)
def test_a_form_explains_itself_and_stays_short(name: str) -> None:
    kind: Any = registry.get(name)
    lines = FORMS[name].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100] == []
    assert not {"for", "while"} & {line.split()[0] for line in lines if line.startswith("    ")}
    paper = r'(DyToK|DyCoke), Table \d+, ".+" \(.*20\d\d\), https://\S+'
    assert re.fullmatch(paper, kind.__doc__.splitlines()[0])
    assert list(field_docs(kind)) == [field.name for field in dataclasses.fields(kind)]


@pytest.mark.usefixtures("forms")
@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("dycoke_random", {"dycoke_random.merge": 2.0}, "dycoke_random.merge=2"),
        ("visionzip+dytok_all", {"dytok_all.cap": 0}, "dytok_all.cap=0 leaves"),
        ("visionzip+feature_norm", {"feature_norm.cap": 0}, "feature_norm.cap=0 leaves"),
        ("visionzip+feature_entropy", {"feature_entropy.cap": -1}, "feature_entropy.cap=-1 leaves"),
        ("visionzip+attention_entropy", {"attention_entropy.layers": [3, 1]}, "attention_entropy."),
    ],
)
def test_a_message_names_the_form_itself(spec: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(StrategyError, match=said):
        build(spec, options)


# DyCoke with random choice


def clip(frames: int, cells: int, seed: int = 0) -> VisualTokens:
    generator = torch.Generator().manual_seed(seed)
    return video(torch.randn(frames * cells, 6, generator=generator), cells)


@pytest.mark.usefixtures("forms")
def test_random_choice_cuts_the_frames_that_dycoke_cuts_by_as_much() -> None:
    tokens = clip(8, 9)
    for merge, follow in itertools.product((0.0, 0.3, 0.7, 1.0), ("paper", "released")):
        own = {"dycoke.merge": merge, "dycoke.follow": follow}
        random = {f"dycoke_random.{key.partition('.')[2]}": value for key, value in own.items()}
        by_rule: Any = build("dycoke", own).strategies[0]
        drawn: Any = build("dycoke_random", random).strategies[0]
        quota = by_rule.quota(tokens)
        assert torch.equal(drawn.quota(tokens), quota)
        assert torch.equal(drawn.compress(tokens, quota).counts, quota)


@pytest.mark.usefixtures("forms")
def test_random_choice_follows_its_seed_and_no_content() -> None:
    kind: Any = registry.get("dycoke_random")
    tokens, other = clip(8, 25), clip(8, 25, seed=1)
    quota = kind().quota(tokens)

    def kept(seed: int, of: Any) -> list[int]:
        left = kind(seed=seed).compress(of, quota)
        return (left.frame * 25 + left.slot).tolist()

    assert kept(0, tokens) == kept(0, other) == sorted(kept(0, tokens)) != kept(1, tokens)
    anchors = {frame * 25 + cell for frame in (0, 4) for cell in range(25)}
    assert anchors <= set(kept(0, tokens))
    # drawn uniformly: over many seeds every cell of a cut frame lives as often
    lived = torch.zeros(25)
    for seed in range(300):
        left = kind(seed=seed).compress(tokens, quota)
        lived += torch.bincount(left.slot[left.frame == 1], minlength=25)
    share = lived / 300
    assert (share - 7 / 25).abs().max() < 0.11  # four standard deviations


@pytest.mark.usefixtures("forms")
def test_random_choice_decodes_as_dycoke_does() -> None:
    model, words = llava_onevision(), prompt(8)
    with attach(model, "dycoke_random", {"dycoke_random.merge": 0.5}) as session:
        model.generate(**words, max_new_tokens=4, do_sample=False)
    drawn: Any = session.report[0]
    with attach(model, "dycoke", {"dycoke.merge": 0.5}) as session:
        model.generate(**words, max_new_tokens=4, do_sample=False)
    assert drawn.kept == session.report[0].kept < drawn.full
    assert drawn.decode_ratio == session.report[0].decode_ratio < drawn.input_ratio


# other sources of frame weights


def guide(**changed: Any) -> TableProbe:
    """Two frames of two tokens, one layer, one head of width 2."""
    frame = torch.tensor([0, 0, 1, 1])
    rows = LastRow(torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 1, 4, 2))
    return dataclasses.replace(TableProbe(rows, frame, 2), **changed)


def weights(name: str, probe: TableProbe) -> list[float]:
    kind: Any = registry.get(name)
    return [round(value, 5) for value in kind().weigh(probe).tolist()]


@pytest.mark.usefixtures("forms")
def test_all_query_tokens_count_alike() -> None:
    """One row looks at the first token alone, the other at all four."""
    scale = math.sqrt(2)  # that scores are divided by
    keys = torch.tensor([[50.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]).view(1, 1, 4, 2)
    asked = torch.tensor([[scale, 0.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    probe = guide(rows=LastRow(torch.zeros(1, 1, 2), keys), asked=asked)
    assert weights("dytok_all", probe) == [0.75, 0.25]
    assert DyToK().weigh(probe).tolist() == [0.5, 0.5]  # its last row sees all alike


@pytest.mark.usefixtures("forms")
def test_all_query_tokens_are_the_last_one_where_there_is_no_other() -> None:
    probe = table_probe(torch.Generator().manual_seed(0), frames=5, tokens=6)
    alone = dataclasses.replace(probe, asked=probe.rows.queries.unsqueeze(1))
    kind: Any = registry.get("dytok_all")
    torch.testing.assert_close(kind().weigh(alone), DyToK().weigh(alone))
    assert not torch.allclose(kind().weigh(probe), DyToK().weigh(probe), atol=1e-3)


@pytest.mark.usefixtures("forms")
def test_attention_entropy_is_of_each_frame_by_itself() -> None:
    """Frame 0 has all its attention on one of its tokens; frame 1 has little, but evenly."""
    keys = torch.tensor([[70.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]).view(1, 1, 4, 2)
    queries = torch.tensor([[[1.0, 0.0]]])
    assert weights("attention_entropy", guide(rows=LastRow(queries, keys))) == [0.0, 1.0]
    # 3 to 1 in frame 0, as the logarithm has it; 1 to 1 in frame 1
    keys[0, 0, 0, 0], keys[0, 0, 1, 0] = math.sqrt(2) * math.log(3), 0.0
    half = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert weights("attention_entropy", guide(rows=LastRow(queries, keys))) == [round(half, 5), 1.0]


@pytest.mark.usefixtures("forms")
def test_features_weigh_by_entropy_and_by_norm() -> None:
    states = torch.tensor([[0.0, 0.0], [0.0, 0.0], [60.0, 0.0], [0.0, 20.0]])
    assert weights("feature_entropy", guide(states=states)) == [1.0, 0.0]
    assert weights("feature_norm", guide(states=states)) == [0.0, 1.0]
    states[0] = torch.tensor([3.0, 4.0])
    assert weights("feature_norm", guide(states=states)) == [round(5 / 85, 5), round(80 / 85, 5)]


@pytest.mark.usefixtures("forms")
@pytest.mark.parametrize("name", ALLOCATORS)
def test_a_padded_batch_is_weighed_as_its_samples_are_alone(name: str) -> None:
    model, texts = llava_onevision(), ((4, 5), (1, 9), (6, 2))
    batch = prompt(6, texts)
    with attach(model, f"visionzip+{name}") as session:
        model.generate(**batch, max_new_tokens=2, do_sample=False)
    together = session.report
    for number, pair in enumerate(texts):
        real = batch["attention_mask"][number].bool()
        alone = {
            "input_ids": batch["input_ids"][number][real].unsqueeze(0),
            "attention_mask": torch.ones(1, int(real.sum()), dtype=torch.long),
            "pixel_values_videos": batch["pixel_values_videos"][number : number + 1],
        }
        with attach(model, f"visionzip+{name}") as session:
            model.generate(**alone, max_new_tokens=2, do_sample=False)
        torch.testing.assert_close(
            torch.tensor(together[number].frame_weights),
            torch.tensor(session.report[0].frame_weights),
            msg=f"sample {number} of {pair}",
        )


@pytest.mark.usefixtures("forms")
def test_features_need_no_layer_of_the_guide() -> None:
    """The report says what ran, and operations are counted by it."""
    model, words = llava_onevision(), prompt(4)
    for name, layers in (("feature_norm", 0), ("feature_entropy", 0), ("dytok_all", 5)):
        with attach(model, f"visionzip+{name}") as session:
            model.generate(**words, max_new_tokens=2, do_sample=False)
        assert session.report.probe_layers == layers


@dataclass(frozen=True)
class Asked(Allocator):
    """Weighs all frames alike, and writes down what it was told."""

    told: list[tuple[QuestionRows, Tensor]] = field(default_factory=list, hash=False)

    def weigh(self, probe: Probe) -> Tensor:
        self.told.append((probe.question(range(probe.depth)), probe.features))
        return torch.ones(probe.frames)


@everywhere
@torch.no_grad()
def test_a_guide_shows_the_question_and_what_enters(kind: str) -> None:
    """Queries of all text behind the video give the maps of the stock model; tokens are as they
    enter layer 0.
    """
    family = FAMILIES[kind]
    words, asked, model = family.prompt(), Asked(), family.model()
    with attach(model, Pipeline((Thin(), asked))):
        model(**words.inputs)
    stock = family.model("eager")
    done = stock(**words.inputs, output_attentions=True, output_hidden_states=True)
    shown = {int(token) for token in words.inputs["input_ids"][words.frame != TEXT].unique()}
    for number, (rows, features) in zip(words.videos(), asked.told, strict=True):
        ids, visual = words.inputs["input_ids"][number], words.frame[number] != TEXT
        place = torch.arange(len(ids))
        behind = (place > place[visual].max()) & words.inputs["attention_mask"][number].bool()
        behind &= ~torch.isin(ids, torch.tensor(sorted(shown)))  # newlines come as video tokens
        assert rows.queries.shape[1] == int(behind.sum()) > 1
        assert torch.allclose(features, done.hidden_states[0][number][visual], atol=1e-5)
        for layer, queries, keys in zip(full_layers(stock), rows.queries, rows.keys, strict=True):
            keys = keys.repeat_interleave(queries.shape[1] // len(keys), dim=0)
            scores = torch.einsum("rhe,hne->hrn", queries, keys) * keys.shape[-1] ** -0.5
            attention = done.attentions[layer][number][:, behind][:, :, visual]
            expected = attention / attention.sum(-1, keepdim=True)
            assert torch.allclose(scores.softmax(-1), expected, atol=1e-5), (number, layer)
