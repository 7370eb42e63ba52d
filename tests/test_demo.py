"""`tokenprune demo`: what it answers, and the page as a client and a browser see it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import write_video

from tokenprune import sheets
from tokenprune.checkpoints import note
from tokenprune.cli.main import main
from tokenprune.demo import clips, page
from tokenprune.demo.compare import Models, Shown, choices
from tokenprune.demo.config import DemoConfig
from tokenprune.tasks import Sample

ROOT = Path(__file__).parent.parent
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models.read(DemoConfig(strategy=["visionzip"]))


@pytest.fixture(scope="module")
def offered() -> dict[str, Sample]:
    return dict(clips.embedded(None, 0))


@pytest.fixture(scope="module")
def found(models: Models, offered: dict[str, Sample]) -> list[Shown]:
    first = next(iter(offered.values()))
    return list(
        models.compare(first, ["visionzip+dytok", "fastv", "random", "visionzip+dytok"], 0.25)
    )


def test_the_full_model_and_random_stand_beside_every_strategy(found: list[Shown]) -> None:
    assert [one.label for one in found] == [
        "full model",
        "random (control)",
        "visionzip+dytok",
        "fastv",
    ]
    assert [round(one.kept, 2) for one in found[:3]] == [1.0, 0.25, 0.25], "measured"
    for one in found[:3]:
        assert one.sheet is not None
        assert one.sheet.answer
        assert one.worth in (0.0, 1.0)
        assert one.milliseconds > sum(value for _, value in one.parts) > 0
    full, random, _ = (one.sheet for one in found[:3])
    assert full is not None and random is not None
    assert full.kept == full.total == 4 * random.kept
    assert full.evidence == random.evidence == (6,)


def test_what_cannot_be_asked_says_why_and_the_others_answer(found: list[Shown]) -> None:
    assert found[3].sheet is None
    assert re.match(r"keep=0.25: fastv retains 33.3% to 100.0% here", found[3].error)


def test_an_assistant_weighs_frames_where_there_is_somebody_to_ask_it(
    models: Models, offered: dict[str, Sample]
) -> None:
    """The full model, the control and methods without an allocator answer beside it."""
    guided = Models.read(DemoConfig(assistant="nano"))
    first, specs = next(iter(offered.values())), ["visionzip", "visionzip+dytok"]
    found = list(guided.compare(first, specs, 0.25))
    assert [one.error for one in found] == [""] * 4
    weighed, alone = found[-1].sheet, list(models.compare(first, specs, 0.25))[-1].sheet
    assert weighed is not None and alone is not None
    assert weighed.weights != alone.weights


def test_a_question_of_ones_own_has_no_right_answer_and_no_evidence(
    models: Models, offered: dict[str, Sample]
) -> None:
    sample = next(iter(offered.values()))
    assert clips.asked(sample, sample.question) is sample
    other = clips.asked(sample, "What shape is the yellow one?")
    full, _ = models.compare(other, [], 0.5)
    assert full.worth is None
    assert full.sheet is not None
    assert full.sheet.evidence == ()


def test_clips_are_named_apart_and_the_first_is_a_needle(offered: dict[str, Sample]) -> None:
    assert len(offered) == 30
    assert [sample.category for sample in offered.values()][:3] == ["needle", "needle", "existence"]
    assert all(sample.question in name for name, sample in offered.items())


def test_what_is_offered_can_be_built() -> None:
    offered = choices()
    assert {"visionzip", "visionzip+dytok", "dycoke", "fastv"} <= set(offered)
    assert {"dytok", "random", "none", "fastvid+dytok"}.isdisjoint(offered)


def test_words_of_a_model_are_no_html() -> None:
    sheet = sheets.Sheet("a<b", [], [[0]], [(1, 1)], answer="<script>x</script>")
    shown = page.systems([Shown("<i>", sheet), Shown("b", error="1<2")], "<b>", waiting=3)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "1&lt;2" in shown
    assert "Right answer: <b>&lt;b&gt;</b>" in shown
    assert "2 of 3 have answered" in shown
    assert "not known" in page.systems([], "")


def test_answers_that_are_partly_right() -> None:
    sheet = sheets.Sheet("", [np.zeros((6, 6, 3), np.uint8)], [[0]], [(1, 1)])
    one = Shown("x", sheet, worth=0.5, kept=1.0, milliseconds=3.0, parts=(("vision", 1.0),))
    assert "50 % right" in page.systems([one], "red")
    assert "✓ right" in page.systems([replace(one, worth=1.0)], "red")
    assert "✗ wrong" in page.systems([replace(one, worth=0.0)], "red")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["strategy=visionzipp"], "unknown strategy 'visionzipp'"),
        (["port=70000"], "port=70000: write a number from 1 to 65535"),
        (["keep=25"], "keep="),
        (["assistent=nano"], "did you mean assistant"),
        (["frames=4"], "frames must be at least 8"),
    ],
)
def test_bad_input(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs_gradio()
    assert main(["demo", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    needs_gradio()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["demo", f"port={port}"]) == 2
    said = capsys.readouterr()
    assert f"port={port} cannot be had" in said.err
    assert said.out == "", "before anything is read"


def test_without_gradio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tokenprune.cli.demo.find_spec", lambda name: None)
    assert main(["demo"]) == 2
    assert "pip install 'tokenprune-video[demo]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The command itself, in a process of its own, ended as a user ends it."""
    needs_gradio()
    temporary = tmp_path_factory.mktemp("temporary")
    process = subprocess.Popen(
        [sys.executable, "-m", "tokenprune", "demo", "strategy=visionzip", f"port={free_port()}"],
        cwd=ROOT,
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "http_proxy": "http://127.0.0.1:9",  # of a cluster: it knows no page of this machine
            "no_proxy": "",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        at = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/) in a browser; .*\n", said)
        assert at is not None, said + process.stdout.read()
        yield at[1]
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
        assert (process.returncode, rest) == (0, "the demo has ended\n")
        assert list(temporary.glob("tokenprune-demo-*")) == [], "uploads are gone"
    finally:
        process.kill()
        process.wait()


def needs_gradio() -> None:
    """Without importing it: it warns of itself, and warnings are errors here."""
    if find_spec("gradio") is None:
        pytest.skip("the extra [demo] is not installed")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# in a process of its own: the client leaves sockets and loops open, and warnings are errors here
CLIENT = """
import json, sys
from gradio_client import Client, handle_file

client, found = Client(sys.argv[1], verbose=False, analytics_enabled=False), []
for name, file, *rest in json.load(sys.stdin):
    try:
        given = [name, handle_file(file) if file else None, *rest]
        found.append(client.predict(*given, api_name="/ask"))
    except Exception as error:
        found.append(f"refused: {error}")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def told(
    address: str, offered: dict[str, Sample], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """What a client is told: of a clip, of a file, of a broken one, and without a question."""
    file = write_video(tmp_path_factory.mktemp("mine") / "mine.mp4", frames=12)
    broken = file.with_name("broken.mp4")
    broken.write_bytes(file.read_bytes()[:300])
    name, sample = next(iter(offered.items()))
    colour = "What colour is it?"
    asked = [
        [name, None, sample.question, ["visionzip", "fastv"], 50],
        [name, str(file), colour, [], 50],
        [name, str(broken), colour, [], 50],
        [name, None, " ", [], 50],
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLIENT, address],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def answered(shown: str) -> list[str]:
    """Labels of the systems that have answered."""
    return re.findall(r"<h3>(.+?)</h3>\s*<p class=\"tp-answer\"><q>.", shown)


def test_a_client_gets_answers(told: list[str], offered: dict[str, Sample]) -> None:
    assert answered(told[0]) == ["full model", "random (control)", "visionzip", "fastv"]
    assert f"Right answer: <b>{next(iter(offered.values())).answer}</b>" in told[0]
    assert told[0].count("<dd>50.0 %</dd>") >= 2
    assert "have answered" not in told[0], "all have"


def test_a_client_sends_a_file(told: list[str]) -> None:
    assert answered(told[1]) == ["full model", "random (control)"]
    assert "not known here" in told[1]
    assert "0.1 s" in told[1], "times of the file"


def test_what_cannot_be_asked_is_refused_in_words(told: list[str]) -> None:
    assert re.match(r"refused: .*truncated or corrupt", told[2])
    assert re.match(r"refused: there is no question", told[3])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playing = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium here")
    with playing.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (360, "dark")])
def test_the_page_in_a_browser(
    chromium: Any, address: str, offered: dict[str, Sample], width: int, scheme: str
) -> None:
    """Choosing a clip brings its question, Enter asks; nothing is fetched from elsewhere."""
    view = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    fetched: list[str] = []
    view.on("request", lambda request: fetched.append(request.url))
    view.goto(address)
    view.get_by_label("Question").wait_for()
    assert note("tiny") in view.inner_text("body")
    name, sample = list(offered.items())[5]
    clip = view.get_by_label("Clip")
    clip.click()
    view.get_by_role("option", name=name).click()
    view.get_by_text("16", exact=True).wait_for()
    question = view.get_by_label("Question")
    view.wait_for_function(
        "text => document.querySelector('textarea').value === text", arg=sample.question
    )
    question.press("Enter")
    view.wait_for_selector(".tp-system:nth-child(3) .tp-answer", timeout=60_000)
    assert view.locator(".tp-system h3").all_inner_texts() == [
        "full model",
        "random (control)",
        "visionzip",
    ]
    assert view.locator(".tp-system").first.locator("li").count() == 16
    root = "document.documentElement"
    assert view.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
    assert view.locator("footer").filter(has_text="gradio").count() == 0
    elsewhere = [url for url in fetched if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == []
    view.close()
