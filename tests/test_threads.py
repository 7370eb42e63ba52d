"""Threads that share an attached model get what each gets alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from models import llava_onevision, prompt

from tokenprune import attach
from tokenprune.errors import StrategyError

TEXTS = [((4, 5),), ((2, 9), (6, 3)), ((7, 2),)]
FRAMES = [4, 7, 5]


def at_once(work: Any, number: int) -> list[Any]:
    """Runs `work(i)` in as many threads, which begin together; raises what the first of them
    raised.
    """
    start, results, errors = threading.Barrier(number), [None] * number, []

    def run(index: int) -> None:
        try:
            start.wait(60)
            results[index] = work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]
    return results


@pytest.mark.parametrize(
    ("spec", "guided"), [("fastv", False), ("visionzip+dytok", False), ("dycoke+dytok", True)]
)
def test_threads_get_what_each_gets_alone(spec, guided):
    model = llava_onevision()
    assistant = llava_onevision(7, depth=3, width=16) if guided else None
    asked = [prompt(frames, texts, seed=9) for frames, texts in zip(FRAMES, TEXTS, strict=True)]

    def answer(index: int) -> list[torch.Tensor]:
        # passes end and begin between those of others; meeting in the middle takes several
        return [model.generate(**asked[index], max_new_tokens=3, do_sample=False) for _ in range(3)]

    with attach(model, spec, assistant=assistant) as session:
        alone = [answer(index)[0] for index in range(3)]
        alike = {(len(report), report[0].frames): report for report in session.reports}
        session.reports.clear()
        for answers, expected in zip(at_once(answer, 3), alone, strict=True):
            assert all(torch.equal(each, expected) for each in answers)
    assert len(session.reports) == 9
    for report in session.reports:
        expected = alike[len(report), report[0].frames]
        for sample in range(len(report)):
            assert report[sample].as_dict() == expected[sample].as_dict()


def test_a_thread_waits_in_the_middle_of_a_pass_while_another_answers():
    """The passes certainly overlap: the first stops inside a layer until the second has its whole
    answer.
    """
    model, inputs, other = llava_onevision(), prompt(5), prompt(7, ((2, 9),))
    with torch.no_grad(), attach(model, "fastv+dycoke"):
        expected = (
            model(**inputs).logits,
            model.generate(**other, max_new_tokens=3, do_sample=False),
        )
    inside, done = threading.Event(), threading.Event()

    def pause(*_: Any) -> None:
        if threading.current_thread().name == "slow":
            inside.set()
            assert done.wait(60)

    for place in (
        model.model.language_model.layers[2].mlp,
        model.model.vision_tower.encoder.layers[1],
    ):
        inside.clear()
        done.clear()
        handle = place.register_forward_pre_hook(pause)
        found: list[torch.Tensor] = []
        with torch.no_grad(), attach(model, "fastv+dycoke"):
            slow = threading.Thread(
                target=torch.no_grad()(lambda found=found: found.append(model(**inputs).logits)),
                name="slow",
            )
            slow.start()
            assert inside.wait(60)
            answer = model.generate(**other, max_new_tokens=3, do_sample=False)
            done.set()
            slow.join(60)
        handle.remove()
        assert torch.equal(answer, expected[1])
        assert torch.allclose(found[0], expected[0], atol=1e-5)


def test_of_threads_that_attach_one_model_at_once_one_gets_it():
    model, inputs = llava_onevision(), prompt(4)
    everybody = threading.Barrier(4)

    def try_it(_: int) -> bool:
        try:
            with attach(model, "random"):
                everybody.wait(60)
                model.generate(**inputs, max_new_tokens=2)
                return True
        except StrategyError as error:
            assert "attached already" in str(error)  # noqa: PT017
            everybody.wait(60)
            return False

    assert sum(at_once(try_it, 4)) == 1
    assert model.config.text_config._attn_implementation == "sdpa"
