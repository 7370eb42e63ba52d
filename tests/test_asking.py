"""`tokenprune.load`, `read_frames` and `ask`: one video, many questions, and one look at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import write_video
from families import FAMILIES, Ask
from jaxtyping import UInt8
from torch import Tensor

import tokenprune
from tokenprune import tasks
from tokenprune.adapters import adapt
from tokenprune.errors import TokenpruneError
from tokenprune.evaluation.generate import generate
from tokenprune.loading.processor import GREEDY
from tokenprune.strategies.visionzip import VisionZip

ASKED = ["What colour is the square?", "Is there a purple cross?", "How many shapes are there?"]


@pytest.fixture(scope="module")
def tiny() -> Any:
    return tokenprune.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def frames() -> UInt8[Tensor, "f h w 3"]:
    return tasks.build("tinyvqa", samples=1, frames=8, seed=0)[0].frames


@contextmanager
def looks(model: Any) -> Iterator[list[int]]:
    """How often the vision tower runs."""
    calls: list[int] = []
    hook = adapt(model).tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        hook.remove()


# what depends on the question: nothing; frames' weights; their tokens; rows inside the model
@pytest.mark.parametrize("spec", ["none", "dycoke", "visionzip+dytok", "cdpruner", "fastv"])
def test_every_answer_is_what_the_question_gets_alone(tiny: Any, frames: Any, spec: str) -> None:
    model, processor = tiny
    with looks(model) as calls:
        replies = tokenprune.ask(tiny, frames, ASKED, spec, max_new_tokens=4)
    assert len(calls) == 1
    assert [reply.question for reply in replies] == ASKED
    assert "not the papers' results" in repr(replies)
    for reply in replies:
        inputs = processor.encode([(frames, reply.question)])
        settings = {"max_new_tokens": 4, **GREEDY}
        pipeline = tokenprune.build(spec)
        alone = generate(model, pipeline, processor, inputs, settings, timed=True)
        assert reply.answer == alone.texts[0]
        assert reply.report.as_dict() == alone.report[0].as_dict()
    vision = [reply.time["vision_ms"] or 0.0 for reply in replies]
    assert vision[0] > 0
    assert vision[1:] == [0, 0]


@pytest.mark.parametrize(("spec", "times"), [("visionzip", 1), ("visionzip+dytok", 3)])
def test_stages_that_read_no_question_run_once(
    tiny: Any, frames: Any, spec: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    compress = VisionZip.compress
    monkeypatch.setattr(
        VisionZip, "compress", lambda self, *given: ran.append(1) or compress(self, *given)
    )
    tokenprune.ask(tiny, frames, ASKED, spec, max_new_tokens=1)
    assert len(ran) == times


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_session_looks_once_in_every_family(kind: str) -> None:
    family = FAMILIES[kind]
    model, clips = family.model(), family.clips
    one, other = (family.prompt([Ask(4, clips[:1], after)]).inputs for after in (5, 7))
    media = {name: part for name, part in one.items() if name not in words(one)}
    how = {"max_new_tokens": 2, "do_sample": False}
    with tokenprune.attach(model, "visionzip") as session:
        alone = [model.generate(**{**prompt, **media}, **how) for prompt in (one, other)]
        with looks(model) as calls:
            seen = session.encode(**media)
            again = [model.generate(**words(prompt), **seen, **how) for prompt in (one, other)]
        # without a cache the prompt comes again for every token, and the features with it
        uncached = model.generate(**words(one), **seen, **how, use_cache=False)
    assert len(calls) == 1
    assert all(torch.equal(*pair) for pair in zip(alone, again, strict=True))
    assert torch.equal(uncached, alone[0])
    first, second, third, fourth, _ = (report[0].as_dict() for report in session.reports[:5])
    assert (third, fourth) == (first, second)


def words(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    names = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
    return {name: inputs[name] for name in names if name in inputs}


def test_another_session_does_not_know_what_was_seen(tiny: Any, frames: Any) -> None:
    model, processor = tiny
    inputs = processor.encode([(frames, ASKED[0])])
    text = words(inputs)
    how = {"max_new_tokens": 1, "do_sample": False}
    with tokenprune.attach(model, "dycoke", {"dycoke.merge": 0.5}) as session:
        seen = session.encode(pixel_values_videos=inputs["pixel_values_videos"])
        model.generate(**text, **seen, **how)
    half = session.report[0].kept
    with tokenprune.attach(model, "dycoke", {"dycoke.merge": 0.25}) as session:
        model.generate(**text, **seen, **how)
        assert session.report[0].kept > half
    visionzip = tokenprune.attach(model, "visionzip")
    with visionzip, pytest.raises(TokenpruneError, match="did not run inside the block"):
        model.generate(**text, **seen, **how)


def test_an_assistant_weighs_frames(tiny: Any, frames: Any) -> None:
    nano = tokenprune.load("nano", device="cpu")
    own = tokenprune.ask(tiny, frames, ASKED, "visionzip+dytok", max_new_tokens=1)
    with looks(tiny.model) as calls:
        guided = tokenprune.ask(
            tiny, frames, ASKED, "visionzip+dytok", max_new_tokens=1, assistant=nano
        )
    assert len(calls) == 1
    assert "tiny and nano are embedded models" in repr(guided)
    for one, other in zip(own, guided, strict=True):
        assert one.report.kept == other.report.kept
        assert one.report.frame_weights != other.report.frame_weights


def test_nothing_to_encode_is_said(tiny: Any, frames: Any) -> None:
    with tokenprune.attach(tiny.model, "dycoke") as session:
        with pytest.raises(TokenpruneError, match="no videos to encode in input_ids: pass what"):
            session.encode(input_ids=torch.ones(1, 1))
        with pytest.raises(TokenpruneError, match="no videos to encode in nothing"):
            session.encode()
    with pytest.raises(TokenpruneError, match=r"not open: .* or session.start\(\)"):
        session.encode()


def test_a_file_is_asked_about(tiny: Any, tmp_path: Path) -> None:
    file = write_video(tmp_path / "grey.mp4", frames=12)
    assert len(tokenprune.read_frames(file)) == 12
    assert len(tokenprune.read_frames(file, 5)) == 5
    replies = tokenprune.ask(tiny, file, ASKED[0], frames=5, max_new_tokens=1)
    assert len(replies) == 1
    assert len(replies.frames) == replies[0].report.frames == 5
    assert replies.times is not None
    assert tokenprune.ask("tiny", str(file), ASKED[:1], frames=5, max_new_tokens=1)


def test_models_come_in_four_ways(tiny: Any, frames: Any) -> None:
    model, processor = tiny
    given = [tiny, (model, processor), model, "tiny"]
    answers = [tokenprune.ask(one, frames, ASKED[0], max_new_tokens=2)[0].answer for one in given]
    assert len(set(answers)) == 1
    with pytest.raises(TokenpruneError, match="not known where this model came from"):
        tokenprune.ask(FAMILIES["llava_onevision"].model(), frames, ASKED[0])


def test_what_is_asked_wrongly_is_said_before_anything_is_answered(tiny: Any, frames: Any) -> None:
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "no question": ({"questions": []}, "there is no question"),
        "a control token": ({"questions": [ASKED[0], "<video>"]}, "must not contain <video>"),
        "no video": ({"video": frames[0]}, r"not uint8 \[\d+, \d+, 3\]"),
        "no pixels": ({"video": frames.float()}, "not float32"),
        "no file": ({"video": "nowhere.mp4"}, "there is no video file"),
        "too long": ({"max_new_tokens": 5000}, "context holds 4,096: show fewer frames"),
        "no budget": ({"strategy": "none", "keep": 0.5}, "none has no budget: leave keep= out"),
        "both": (
            {"strategy": "fastv", "keep": 0.5, "options": {"fastv.drop": 0.5}},
            "keep= sets fastv.drop",
        ),
        "nobody to guide": ({"assistant": tiny}, "none has no allocator that an assistant"),
        "options of a pipeline": (
            {"strategy": tokenprune.build("fastv"), "options": {"fastv.drop": 0.5}},
            "already has its fields",
        ),
    }
    for change, message in wrong.values():
        asked = {"model": tiny, "video": frames, "questions": ASKED, "strategy": "none", **change}
        with looks(tiny.model) as calls, pytest.raises(TokenpruneError, match=message):
            tokenprune.ask(**asked)
        assert not calls


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"bit": 4}, r"takes no bit=: did you mean bits=\?"),
        ({"bits": 5}, "write 8 or 4"),
        ({"device_map": {"model": 0}, "device": "cpu"}, "leave one of them out"),
        ({"device_map": "everywhere"}, "device_map=everywhere is unknown"),
        ({"template": "qwen_2"}, "template=qwen_2 is unknown"),
    ],
)
def test_choices_of_loading(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenpruneError, match=message):
        tokenprune.load("tiny", **choices)


def test_as_a_table(tiny: Any, frames: Any) -> None:
    pandas = pytest.importorskip("pandas")
    replies = tokenprune.ask(tiny, frames, ASKED, "visionzip+dytok", max_new_tokens=2)
    table = replies.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.question) == ASKED
    assert table.input_ratio.between(0.2, 0.3).all()
    report = replies[0].report
    per_frame = report.to_pandas()
    assert len(per_frame) == 8
    assert per_frame.kept.sum() == report.kept == per_frame.visionzip_budget.sum()
    assert per_frame.weight.sum() == pytest.approx(1)
