"""The page of a run in a real browser: from disk, without a network, narrow and wide, by keyboard.

Chromium of the distribution, through playwright; without one of them the tests are skipped.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tokenprune.runtime.slots import unpack
from tokenprune.storage import replace
from tokenprune.tasks.tinyvqa import TinyVQA
from tokenprune.view.write import write

playwright = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: {', '.join(NAMES)}")
SIZES = [(width, scheme) for width in (360, 1440) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def file(nine_samples, tmp_path_factory) -> Path:
    """The page of a run of which the last two samples' answers differ from the full model's."""
    folder = Path(shutil.copytree(nine_samples, tmp_path_factory.mktemp("looked") / "run"))
    records = folder / "records.jsonl"
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    for line in lines:
        for role, right in (("vanilla", 1.0), ("strategy", float(line["index"] < 7))):
            line[role] |= {"score": right, "prediction": "yes" if right else "a word " * 30}
    replace(records, "".join(json.dumps(line) + "\n" for line in lines))
    return write(folder).file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def asked() -> list[str]:
    """What the page asked of anybody, and what it complained of."""
    return []


@pytest.fixture
def opened(browser: Any, file: Path, asked: list[str]) -> Iterator[Any]:
    """Opens the page from disk, in a window of some width, without a network."""
    contexts = []

    def open_page(width: int = 1440, scheme: str = "light", scripts: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=scripts,
            offline=True,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.on("console", lambda message: asked.append(message.text))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def shown(page: Any) -> list[str]:
    """Places of the samples that are seen, in order."""
    return page.evaluate(
        "[...document.querySelectorAll('.sample')].filter((one) => one.offsetParent)"
        ".map((one) => one.dataset.place)"
    )


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_fits_its_window_and_can_be_read(opened, asked, file, width, scheme):
    page = opened(width, scheme)
    found = page.evaluate(
        """() => {
          const whole = document.documentElement;
          const texts = [...document.querySelectorAll("body *")].filter(
            (one) => one.offsetParent && [...one.childNodes].some(
              (node) => node.nodeType === 3 && node.textContent.trim()));
          const light = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((one) => {
              const share = one / 255;
              return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const paper = getComputedStyle(document.body).backgroundColor;
          const contrast = (one) => {
            const pair = [light(getComputedStyle(one).color), light(paper)].sort((a, b) => b - a);
            return (pair[0] + 0.05) / (pair[1] + 0.05);
          };
          const first = document.querySelector(".tp-sheet li i");
          return {
            over: whole.scrollWidth - whole.clientWidth,
            small: texts.filter((one) => parseFloat(getComputedStyle(one).fontSize) < 12).length,
            pale: texts.filter((one) => contrast(one) < 4.5).map((one) => one.outerHTML),
            dark: light(paper) < 0.2,
            frame: [first.offsetWidth, first.offsetHeight],
          };
        }"""
    )
    assert (found["over"], found["small"], found["pale"]) == (0, 0, [])
    assert found["dark"] is (scheme == "dark")
    assert min(found["frame"]) > 36
    assert asked[0] == file.as_uri()
    assert [url for url in asked[1:] if not url.startswith("data:")] == []


def test_kept_cells_are_bright_and_dropped_ones_dark_on_the_screen(opened, file):
    """Every tile of a sheet, as pixels: a mask that is shifted or of another frame would fail."""
    page = opened()
    record = json.loads((file.parent / "records.jsonl").read_text().splitlines()[8])
    frames = TinyVQA(frames=8)[8].frames.float().mean(-1)
    tiles = page.locator("#s8 .tp-sheet").first.locator("li i")
    assert tiles.count() == 8
    for place, kept in enumerate(unpack(record["strategy"]["tokens"])):
        with av.open(io.BytesIO(tiles.nth(place).screenshot()), "r") as container:
            seen = next(container.decode(video=0)).to_ndarray(format="gray").astype(float)
        for cell in range(36):
            row, column = divmod(cell, 6)
            tall, wide = seen.shape[0] / 6, seen.shape[1] / 6
            part = seen[
                round(tall * row) + 3 : round(tall * (row + 1)) - 3,
                round(wide * column) + 3 : round(wide * (column + 1)) - 3,
            ]
            true = frames[place, 16 * row + 4 : 16 * row + 12, 16 * column + 4 : 16 * column + 12]
            share = part.mean() / float(true.mean())
            assert share > 0.6 if cell in kept else share < 0.45, (place, cell, share)


def test_changed_answers_come_first_and_filters_choose(opened):
    page = opened()
    assert shown(page)[:3] == ["7", "8", "0"]
    page.select_option("select[name=state]", "lost")
    assert shown(page) == ["7", "8"]
    assert page.inner_text("#filter output") == "2 of 9"
    page.select_option("select[name=category]", "needle")
    assert shown(page) == ["8"]
    page.select_option("select[name=state]", "")
    page.select_option("select[name=category]", "")
    page.select_option("select[name=order]", "place")
    assert shown(page) == [str(place) for place in range(9)]
    page.select_option("select[name=order]", "category")
    assert shown(page)[0] == "1", "colour"
    page.select_option("select[name=order]", "")
    assert shown(page)[:3] == ["7", "8", "0"]
    page.fill("input[name=words]", "nothing like it")
    assert shown(page) == [] and page.is_visible("#none")


def test_the_keyboard_opens_samples_and_sorts_tables(opened):
    page = opened()
    third = page.locator(".sample > summary").nth(2)
    third.focus()
    page.keyboard.press("Enter")
    assert page.locator(".sample").nth(2).get_attribute("open") is not None
    page.keyboard.press("Tab")
    button = page.locator("table.sorts thead button").nth(3)
    button.focus()
    rows = "[...document.querySelectorAll('table.sorts tbody tr')].map((r) => r.cells[3].innerText)"
    first = page.evaluate(rows)
    page.keyboard.press("Enter")
    assert page.evaluate(rows) == sorted(first, reverse=True)
    head = page.locator("table.sorts thead th").nth(3)
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    assert page.evaluate(rows) == sorted(first) and head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert page.evaluate(rows) == first and head.get_attribute("aria-sort") is None


def test_without_scripts_everything_is_there(opened):
    page = opened(scripts=False)
    assert page.locator(".sample").count() == 9
    assert not page.is_visible("#filter")
    page.locator(".sample > summary").nth(5).click()
    assert page.locator(".sample").nth(5).locator(".tp-sheet").first.is_visible()


def test_nothing_is_told_by_colour_alone(opened):
    page = opened()
    states = page.locator(".sample .state").all_inner_texts()
    assert states[0] == "▼ lost" and states[-1] == "= same"
    worths = page.locator(".sample .worth").all_inner_texts()
    assert all(text.strip()[0] in "✓✗◐·!" for text in worths)
    dashes = (
        "(role) => getComputedStyle(document.querySelector(`.lines path.${role}`)).strokeDasharray"
    )
    looks = {page.evaluate(dashes, role) for role in ("vanilla", "random", "strategy")}
    assert len(looks) == 3
