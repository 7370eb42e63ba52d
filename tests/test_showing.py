"""What a notebook draws of reports, replies and results: contact sheets and tables as HTML."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Ask
from jaxtyping import UInt8
from models import llava_onevision, prompt
from test_columns import written
from torch import Tensor

import tokenprune
from tokenprune.errors import TokenpruneError
from tokenprune.results.read import Runs
from tokenprune.runtime.report import SampleReport
from tokenprune.runtime.showing import sheet_of

GREEDY = {"max_new_tokens": 3, "do_sample": False}


class Page(HTMLParser):
    """Text, links to elsewhere, and how often each tag opens and closes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.opened: list[str] = []
        self.outside: list[str] = []
        self.feed(html)
        assert not self.opened, self.opened

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag != "script"
        given = {name: value or "" for name, value in attrs}
        self.outside += [value for value in given.values() if "http" in value]
        if tag not in ("path", "br", "meta", "img"):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "br", "meta", "img"):
            assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def footage(frames: int) -> UInt8[Tensor, "f h w 3"]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (frames, 30, 40, 3), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def session() -> Any:
    model = llava_onevision()
    with tokenprune.attach(model, "visionzip+dytok") as session:
        model.generate(**prompt(4, texts=((4, 5), (2, 3))), **GREEDY)
    return session


def test_a_sample_is_a_contact_sheet(session: Any, tmp_path: Path) -> None:
    sample: SampleReport = session.report[0]
    drawn = sample.show(footage(4), seconds=[0.0, 1.5, 3.0, 4.5], answer="<b>yes</b>")
    page = Page(drawn._repr_html_())
    assert not page.outside
    assert "visionzip" in page.text
    assert "<b>yes</b>" in page.text
    for frame, kept in enumerate(map(len, sample.slots), 1):
        assert f"{kept}/9" in page.text
        assert f"{frame} · " in page.text
    assert "4.5 s" in page.text
    assert f"{sample.kept} of {sample.full} tokens" in page.text
    assert "weight of frames" in page.text
    file = drawn.save(tmp_path / "sheet.html")
    assert drawn.html in file.read_text(encoding="utf-8")
    assert ".save(" in repr(drawn)


def test_without_frames_its_cells_are_drawn(session: Any) -> None:
    assert "data:image/jpeg" not in session.report[0]._repr_html_()
    assert "data:image/jpeg" in session.report[0].show(footage(4)).html
    both = Page(session.report._repr_html_())
    assert both.text.count("of 36 tokens") == 2


@pytest.mark.parametrize("given", [list, np.asarray, lambda frames: [*np.asarray(frames)]])
def test_frames_come_as_tensors_arrays_or_lists(session: Any, given: Any) -> None:
    sample, frames = session.report[0], footage(4)
    assert sample.show(given(frames)).html == sample.show(frames).html


def test_of_pairs_of_pictures_the_first_stands_for_both() -> None:
    family = FAMILIES["qwen2_vl"]
    made = family.prompt([Ask(4, family.clips[:1], 5)])
    with tokenprune.attach(family.model(), "uniform") as session:
        family.model().generate(**made.inputs, **GREEDY)
    report = session.report[0]
    assert report.frames == 3
    for number, places in ((3, [0, 1, 2]), (6, [0, 2, 4]), (5, [0, 2, 4])):
        frames, seconds = footage(number), [float(place) for place in range(number)]
        sheet = sheet_of(report, frames, seconds)
        assert sheet.seconds == places
        assert all(
            (a == frames[b].numpy()).all() for a, b in zip(sheet.frames, places, strict=True)
        )
    assert sheet_of(report, seconds=range(6)).seconds == [0, 2, 4]
    assert sheet_of(report).grids == [(video := report.videos[0])[1:]] * video.frames


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (footage(3), "3 frames for a video that the language model saw as 4"),
        (footage(9), "9 frames"),
        (footage(4).float(), "a frame is uint8"),
        (footage(4)[..., 0], r"not uint8 \[30, 40\]"),
    ],
)
def test_frames_that_were_not_shown_are_refused(session: Any, frames: Any, message: str) -> None:
    with pytest.raises(TokenpruneError, match=message):
        session.report[0].show(frames)


def test_replies_share_one_picture_of_the_video(tmp_path: Path) -> None:
    model = tokenprune.load("tiny", device="cpu")
    asked = ["Is there a <cross>?", "What moves?"]
    replies = tokenprune.ask(model, footage(8), asked, "dycoke", max_new_tokens=2)
    html = replies._repr_html_()
    page = Page(html)
    assert html.count("data:image/jpeg") == 1
    assert "they are not the papers' results" in page.text
    for reply in replies:
        assert f"dycoke: {reply.question}" in page.text
        assert reply.answer in page.text
    assert replies.show().save(tmp_path / "replies.html").stat().st_size < 100_000
    alone = tokenprune.ask(model, footage(8), asked[0], max_new_tokens=2)
    assert "none: Is there a <cross>?" in Page(alone._repr_html_()).text


def test_results_are_a_table(tmp_path: Path) -> None:
    """Below it stands what to beware of, once."""
    runs = [noted(tokenprune.read(written(tmp_path / name)), "<b>careful</b>") for name in "ab"]
    page = Page(runs[0]._repr_html_())
    assert all(system.label in page.text for system in runs[0].summary.systems.values())
    assert "At the same measured budget" in page.text
    assert "<b>careful</b>" in page.text
    page = Page(Runs(tmp_path, (*runs,))._repr_html_())
    assert f"2 cells of {tmp_path.name}" in page.text
    assert page.text.count("careful") == 1


def test_results_in_a_few_lines_of_text(tmp_path: Path) -> None:
    """Without folders that only this machine has: notebooks store what they print."""
    run = noted(tokenprune.read(written(tmp_path / "mine")), "careful")
    first, *systems, headline, note = repr(run).splitlines()
    assert first.startswith("mine: ")
    assert len(systems) == len(run.roles)
    for line, role in zip(systems, run.roles, strict=True):
        assert run.summary.systems[role].label in line
        assert "% of visual tokens" in line
    assert "At the same measured budget" in headline
    assert note == "careful"
    cells = repr(Runs(tmp_path, (run, run)))
    assert cells.splitlines()[0] == f"2 cells of {tmp_path.name}"
    assert cells.count("careful") == 1
    assert str(tmp_path) not in repr(run) + cells


def noted(run: Any, note: str) -> Any:
    setting = replace(run.summary.setting, note=note)
    return replace(run, summary=replace(run.summary, setting=setting))
