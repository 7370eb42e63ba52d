"""TinyVQA: the generator keeps its promises, and the embedded model can really see."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
import torch

from experiments.tiny.scenarios import ask, commission
from experiments.tiny.text import tokenizer
from tokenprune import checkpoints, tasks
from tokenprune.tasks.cast import Plot, roles
from tokenprune.tasks.metrics import event_f1
from tokenprune.tasks.plots import apart, procession, twins
from tokenprune.tasks.questions import CATEGORIES, EVENTS, HARD, SHORT, Question
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import COLOURS, CROWD, NEEDLE_FRAMES, SHAPES, SIZE, Scenes, Thing, draw
from tokenprune.tasks.tinyvqa import TinyVQA, generator

# categories whose questions say in which frames their evidence is
LOCATED = ("when", "needle", "flash", "apart", "tally")
LOOK_ALIKE = {"circle": "ring", "square": "diamond", "triangle": "cross"}
LOOK_ALIKE |= {other: shape for shape, other in LOOK_ALIKE.items()}


PLOTS = dict.fromkeys(category.plot for category in CATEGORIES.values())


def _task(samples: int = 90, frames: int = 16, seed: int = 0) -> TinyVQA:
    return TinyVQA(samples=samples, frames=frames, seed=seed)


def _scenes(videos: int, frames: int = 16, plot: Plot = roles) -> Scenes:
    return draw(generator("train", 0, 0, frames), videos, frames, plot)


def _things(videos: int, frames: int = 16, plot: Plot = roles) -> list[list[Thing]]:
    return _scenes(videos, frames, plot).things()


def test_unknown_task_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown task 'tinyvqq': did you mean tinyvqa\?"):
        tasks.build("tinyvqq", samples=1, frames=16, seed=0)


@pytest.mark.parametrize("frames", [8, 16, 32])
def test_samples_have_the_promised_form(frames: int) -> None:
    task = _task(samples=len(CATEGORIES), frames=frames)
    assert isinstance(tasks.build("tinyvqa", samples=1, frames=frames, seed=0), TinyVQA)
    samples = [task[i] for i in range(len(task))]
    assert [sample.category for sample in samples] == list(CATEGORIES)
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.frames.shape == (frames, SIZE, SIZE, 3) and sample.frames.dtype == torch.uint8
        assert (sample.frames[1:] != sample.frames[:-1]).flatten(1).any(1).all(), (
            "two equal neighbouring frames"
        )
        assert bool(sample.evidence) == (sample.category in LOCATED)
        assert all(0 <= frame < frames for frame in sample.evidence)
    assert TinyVQA(samples=1, size=128)[0].frames.shape == (16, 128, 128, 3)


def test_length_bounds_and_default() -> None:
    assert len(_task(5)) == 5 and len(TinyVQA()) % len(CATEGORIES) == 0
    with pytest.raises(IndexError, match="sample 5 of 5"):
        _task(5)[5]
    with pytest.raises(ValueError, match="frames must be at least 8, not 7"):
        _task(frames=7)
    with pytest.raises(ValueError, match="size must be at least 96"):
        TinyVQA(size=95)
    with pytest.raises(ValueError, match="at least 1"):
        _task(samples=0)


def test_a_sample_is_a_function_of_seed_index_and_frames_alone() -> None:
    few, many = _task(9), _task(90)
    for index in (8, 3):  # order of access must not matter either
        a, b = few[index], many[index]
        assert (a.id, a.question, a.answer) == (b.id, b.question, b.answer) and torch.equal(
            a.frames, b.frames
        )
        family, question = few.question(index)
        assert (family, *question[:2], question.evidence) == (
            a.category,
            a.question,
            a.answer,
            a.evidence,
        )
    assert not torch.equal(_task(9, seed=1)[3].frames, few[3].frames)


def test_no_test_stream_is_a_training_stream() -> None:
    seeds = {
        split: {generator(split, 0, i, 16).initial_seed() for i in range(500)}
        for split in ("train", "test")
    }
    assert all(seed % 2 == 0 for seed in seeds["train"]) and all(
        seed % 2 == 1 for seed in seeds["test"]
    )
    # more bits would be ignored by PyTorch
    assert all(seed < 2**32 for split in seeds.values() for seed in split)


def test_answers_are_balanced_given_the_question_family() -> None:
    rounds = 12  # a multiple of the number of answers of every short family
    task = _task(rounds * len(CATEGORIES))
    asked = [task.question(i) for i in range(len(task))]
    brief = SHORT | HARD
    for name in brief.keys() - {"order", "apart"}:
        counts = Counter(question.answer for family, question in asked if family == name)
        assert counts == {
            word: rounds // len(brief[name].balance) for word in brief[name].balance
        }, (name, counts)
    for name in ("order", "apart"):
        former = [
            q.text.split("the ")[1].startswith(q.answer) for family, q in asked if family == name
        ]
        assert sum(former) * 2 == len(former) == rounds


def test_a_reader_of_the_question_alone_is_at_chance() -> None:
    """The best constant answer to each wording, learnt from one half of the questions, answers the
    other half.
    """
    # one question a video and balance word at most
    pools: dict[tuple[str, str], list[Question]] = defaultdict(list)
    choice = random.Random(0)
    videos = {plot: _things(5000, plot=plot) for plot in PLOTS}
    for name, family in CATEGORIES.items():
        for things in videos[family.plot]:
            fitting: dict[str, list[Question]] = defaultdict(list)
            for question in family.ask(things, 16):
                fitting[question.balance].append(question)
            for word, questions in fitting.items():
                pools[name, word].append(choice.choice(questions))
    gains = []
    for name, family in (SHORT | HARD).items():
        half = min(len(pools[name, word]) for word in family.balance) // 2
        learnt: dict[str, Counter[str]] = defaultdict(Counter)
        for question in (q for word in family.balance for q in pools[name, word][:half]):
            learnt[question.text][question.answer] += 1
        best = {wording: counts.most_common(1)[0][0] for wording, counts in learnt.items()}
        asked = [q for word in family.balance for q in pools[name, word][half : 2 * half]]
        gains.append(sum(best.get(q.text) == q.answer for q in asked) / len(asked) - family.chance)
        assert (
            len(asked) > 200
            and abs(gains[-1]) < 4 * (family.chance * (1 - family.chance) / len(asked)) ** 0.5
        ), name
    assert abs(sum(gains) / len(gains)) < 0.025, gains

    stories = [[q.answer for q in pools["describe", str(n)][:8]] for n in EVENTS]
    learnt_from, told = (
        [s for same in stories for s in same[:4]],
        [s for same in stories for s in same[4:]],
    )
    assert max(sum(event_f1(a, b) for b in told) / len(told) for a in learnt_from) < 0.2


def test_absent_pairs_recombine_what_is_there() -> None:
    """Nobody is asked about a small object's shape, or about a pair of which one half is worn by a
    small one only.
    """
    for things in _things(64):
        known = [thing for thing in things if not thing.small and thing.becomes == thing.colour]
        colours, shapes = {thing.colour for thing in known}, {thing.shape for thing in known}
        there = {(thing.colour, thing.shape) for thing in things} | {
            (thing.becomes, thing.shape) for thing in things
        }
        for question in CATEGORIES["existence"].ask(things, 16):
            *_, colour, shape = question.text.rstrip("?").split()
            assert ((colour, shape) in there) == (question.answer == "yes")
            if question.answer == "no":
                assert (colour in colours) + (shape in shapes) == (2 if len(things) > 1 else 1)


@pytest.mark.parametrize("frames", [8, 16, 32])
def test_scenes_are_answerable(frames: int) -> None:
    scenes = draw(generator("train", 0, 1, frames), 512, frames)
    assert scenes.visible.any(1).sum(1).ge(1).all(), "an empty video"
    assert scenes.visible.sum(1)[scenes.needle].le(NEEDLE_FRAMES).all() and scenes.needle.any()
    turns = (scenes.colour != scenes.colour[:, :1]).any(1) & scenes.visible.any(1)
    for late in (False, True):
        shown = scenes.visible & ((scenes.colour != scenes.colour[:, :1]) == late)
        assert shown.sum(1)[turns].ge(1).all() and turns.any(), "never seen in one of its colours"
    guests = small = 0
    for things in scenes.things():
        colours = {t.colour for t in things} | {t.becomes for t in things}
        assert len({t.colour for t in things}) == len(things) == len({t.shape for t in things})
        assert len(colours) == len(things) + sum(t.becomes != t.colour for t in things)
        assert colours <= set(COLOURS) and {t.shape for t in things} <= set(SHAPES)
        assert [t.first for t in things] == sorted(t.first for t in things)
        guests, small = guests + sum(t.guest for t in things), small + sum(t.small for t in things)
        assert sum(t.small for t in things) <= 1
        for thing in things:
            assert 0 <= thing.first <= thing.last < frames
            assert not thing.guest or thing.first * 3 // frames == thing.last * 3 // frames, (
                "in two thirds"
            )
            assert thing.becomes == thing.colour or thing.first < thing.turn <= thing.last
            assert thing.needle + thing.guest + thing.small + (thing.becomes != thing.colour) <= 1
    assert guests > 20 < small


@pytest.mark.parametrize("frames", [8, 16, 32, 64])
def test_two_needles_are_half_the_video_apart(frames: int) -> None:
    orders = Counter()
    for things in _things(256, frames, apart):
        needles = [thing for thing in things if thing.needle]
        assert 2 <= len(things) <= CROWD and len(needles) == 2
        assert needles[1].first - needles[0].first >= frames / 2
        assert all(t.last - t.first < NEEDLE_FRAMES for t in needles)
        former, latter = CATEGORIES["apart"].ask(things, frames)
        assert {former.balance, latter.balance} == {"former", "latter"}
        assert former.answer == latter.answer == needles[0].colour
        assert set(former.evidence) == {f for t in needles for f in range(t.first, t.last + 1)}
        orders[needles[0].colour < needles[1].colour] += 1
    assert min(orders.values()) > 90  # neither colour comes first more often


@pytest.mark.parametrize("frames", [8, 16, 32, 64])
def test_objects_of_a_procession_are_never_together(frames: int) -> None:
    scenes = _scenes(256, frames, procession)
    assert scenes.visible.sum(2).max() == 1
    numbers = Counter()
    for things in scenes.things():
        (question,) = CATEGORIES["tally"].ask(things, frames)
        assert not CATEGORIES["count"].ask(things, frames)
        shown = {f for t in things for f in range(t.first, t.last + 1)}
        assert set(question.evidence) == shown and len(shown) <= NEEDLE_FRAMES * len(things)
        numbers[question.answer] += 1
    assert numbers.keys() == {"1", "2", "3", "4"} and min(numbers.values()) > 40


def test_look_alikes_come_in_pairs_and_stay() -> None:
    scenes = _scenes(256, plot=twins)
    assert scenes.visible.all() and (scenes.radius < 10).all() and (scenes.radius > 6).all()
    shapes = Counter()
    for things in scenes.things():
        worn = {thing.shape for thing in things}
        assert len(worn) == CROWD and {LOOK_ALIKE[shape] for shape in worn} == worn
        asked = CATEGORIES["lookalike"].ask(things, 16)
        assert len(asked) == CROWD and not CATEGORIES["shape"].ask(things, 16)
        shapes.update(question.answer for question in asked)
    assert shapes.keys() == set(SHAPES) and min(shapes.values()) > 120


def test_a_flash_is_a_single_frame() -> None:
    asked = [q for things in _things(512) for q in CATEGORIES["flash"].ask(things, 16)]
    assert len(asked) > 20 and all(len(question.evidence) == 1 for question in asked)


def test_evidence_is_where_the_answer_can_be_seen() -> None:
    for things in _things(128):
        for name in ("needle", "when"):
            brief = [
                thing for thing in things if (thing.needle if name == "needle" else thing.guest)
            ]
            for thing, question in zip(brief, CATEGORIES[name].ask(things, 16), strict=True):
                assert (
                    question.evidence == tuple(range(thing.first, thing.last + 1))
                    and len(question.evidence) <= 3
                )


def test_descriptions_tell_everything_in_its_order() -> None:
    tokens, lengths = tokenizer(), set()
    for things in _things(256):
        for question in CATEGORIES["describe"].ask(things, 16):
            events = question.answer.removesuffix(".").split(", ")
            assert (
                len(events) == int(question.balance) == len(set(events)) and len(events) in EVENTS
            )
            lengths.add(len(tokens(question.answer)["input_ids"]))
            for thing in things:
                enters, leaves = (
                    f"{thing.colour} {thing.shape} appears",
                    f"{thing.becomes} {thing.shape} leaves",
                )
                turns = f"{thing.colour} {thing.shape} turns {thing.becomes}"
                mine = [event for event in events if thing.shape in event.split()]
                changes, goes = thing.becomes != thing.colour, thing.last < 15
                assert mine == [enters] + [turns] * changes + [leaves] * goes
            entered = [event.split()[1] for event in events if event.endswith("appears")]
            assert entered == [
                t.shape for t in sorted(things, key=lambda t: (t.first, COLOURS.index(t.colour)))
            ]
    assert min(lengths) >= 15 and 30 < max(lengths) <= 40, lengths


def test_render_paints_what_the_scene_says() -> None:
    stream = generator("train", 0, 2, 16)
    scenes = draw(stream, 24, 16)
    video, owner = render(stream, scenes)
    mine = owner.unsqueeze(-1) == torch.arange(CROWD)  # [b f h w o]
    # only some change, and both colours are painted
    turned = (scenes.colour != scenes.colour[:, :1]).any(1)[:, None]
    for group in (turned, ~turned):
        red = (scenes.colour == COLOURS.index("red")) & group
        pixels = video[(mine & red[:, :, None, None]).any(-1)].float().mean(0)
        assert pixels[0] > 180 and pixels[1] < 80 and pixels[2] < 80, pixels
    seen = mine.any((2, 3))  # [b f o]
    assert not (seen & ~scenes.visible).any()
    assert (seen == scenes.visible).float().mean() > 0.97  # the rest is covered by others
    area = mine.sum((2, 3)).amax(1)
    assert (
        scenes.small.any()
        and area[scenes.small].max()
        < area[~scenes.small & scenes.visible.any(1)].float().mean() / 2
    )


def test_training_questions_come_from_every_family() -> None:
    choice = random.Random(0)
    scenes = commission(generator("train", 0, 0, 16), 64, 16, choice)
    asked = [ask(things, 16, 8, choice) for things in scenes.things()]
    assert len(asked) == 64 and {row.family for rows in asked for row in rows} == set(CATEGORIES)
    for rows in asked:
        assert (
            len(set(rows)) == len({row[:2] for row in rows})
            and sum(row.weight for row in rows) == 8
        )
        assert all(row.question.balance in CATEGORIES[row.family].balance for row in rows)
    brief = sum(any(thing.needle for thing in things) for things in scenes.things())
    assert brief > 0.25 * 64  # made to order: of random scenes, one in five has a needle


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown checkpoint 'huge': Known: .*tiny"):
        checkpoints.path("huge")


def test_the_embedded_model_is_small_and_genuine() -> None:
    from transformers import AutoConfig, AutoTokenizer

    folder = checkpoints.path("tiny")
    assert (
        sum(
            file.stat().st_size
            for name in checkpoints.names()
            for file in checkpoints.path(name).iterdir()
        )
        <= 8_000_000
    )
    config, tokens = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert config.architectures == ["LlavaOnevisionForConditionalGeneration"]
    assert config.text_config.num_hidden_layers >= 6
    assert config.text_config.num_key_value_heads < config.text_config.num_attention_heads
    assert tokens.convert_tokens_to_ids(["<image>", "<video>"]) == [
        config.image_token_id,
        config.video_token_id,
    ]
    assert tokens.padding_side == "left" and tokens.eos_token == "<|im_end|>"
    chat = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What moves?"}]}
    ]
    prompt = tokens.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>user <video>\nWhat moves?<|im_end|><|im_start|>assistant\n"
    assert all(len(tokens(word)["input_ids"]) == 1 for word in (*COLOURS, *SHAPES))


def test_the_embedded_model_sees() -> None:
    """Stock `generate`, greedy: clearly above the chance of 0.27 that the short families have on
    average.
    """
    from experiments.tiny.evaluate import scores

    result = scores(checkpoints.path("tiny"), samples=33, frames=16, seed=0)
    assert result["macro"] > 0.5, result


def test_the_assistant_is_a_quarter_of_the_model() -> None:
    from experiments.tiny.report import parameters

    assert checkpoints.names() == ["nano", "tiny"]
    assert 4 * parameters(checkpoints.path("nano")) <= parameters(checkpoints.path("tiny"))
