"""Contact sheets: what their pictures, masks and words say, read back from the HTML."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tokenprune import sheets
from tokenprune.sheets import Sheet
from tokenprune.sheets.charts import charts
from tokenprune.sheets.mask import mask

COLOURS = [(200, 30, 30), (30, 180, 60), (40, 60, 200)]


def frames(number: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [
        np.full((height, width, 3), COLOURS[place % 3], dtype=np.uint8) for place in range(number)
    ]


def sheet(**given) -> Sheet:
    """Three frames of 2 x 3 cells: all kept, two kept, none kept."""
    plain = {
        "label": "mine",
        "frames": frames(3),
        "slots": [range(6), [1, 5], []],
        "grids": [(2, 3)] * 3,
    }
    return Sheet(**{**plain, **given})


def pixels(uri: str) -> np.ndarray:
    """A picture inside a data URI, as uint8 [h w 4]."""
    raw = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    return np.asarray(Image.open(raw).convert("RGBA"))


def embedded(html: str, name: str) -> np.ndarray:
    (uri,) = re.findall(rf"--{name}:url\((data:[^)]+)\)", html)
    return pixels(uri)


def words(html: str) -> str:
    """What is read aloud: text without what is hidden from assistive technology."""

    class Reader(HTMLParser):
        hidden = 0
        found = ""

        def handle_starttag(self, tag, attrs):
            if self.hidden or dict(attrs).get("aria-hidden") == "true":
                self.hidden += tag != "path"

        def handle_endtag(self, tag):
            self.hidden -= bool(self.hidden) and tag != "path"

        def handle_data(self, data):
            self.found += "" if self.hidden else data

    reader = Reader()
    reader.feed(html)
    return " ".join(reader.found.split())


def test_every_frame_says_how_much_of_it_was_kept_and_when_it_is():
    html = sheets.fragment(sheet(seconds=[0, 61.4, 3725], evidence=[1], answer="<b>red</b>"))
    told = words(html)
    for part in ("6/6 1 · 0.0 s", "2/6 ★ 2 · 1:01", "0/6 3 · 1:02:05", "8 of 18 tokens (44.4 %)"):
        assert part in told
    assert "<b>red</b>" in told, "an answer is text, never markup"
    assert html.count('class="evident"') == 1
    assert "<script" not in html


def test_the_thumbnails_are_the_frames_in_order():
    html = sheets.fragment(sheet())
    assert re.findall(r'<li style="--y:(\d)"', html) == ["0", "1", "2"]
    picture = embedded(html, "frames")
    assert picture.shape[:2] == (3 * 64, 86)
    for third, colour in zip(np.split(picture, 3), COLOURS, strict=True):
        centre = third[20:44, 20:-20, :3].reshape(-1, 3).mean(0)
        assert np.abs(centre - colour).max() < 6


def test_what_was_dropped_is_dark_and_outlined_and_what_was_kept_is_clear():
    over = embedded(sheets.fragment(sheet()), "mask")
    tiles = np.split(over, 3)
    tall, wide = (side // cells for side, cells in zip(tiles[0].shape, (2, 3), strict=False))
    for tile, cells in zip(tiles, sheet().slots, strict=True):
        for cell in range(6):
            row, column = divmod(cell, 3)
            part = tile[tall * row : tall * (row + 1), wide * column : wide * (column + 1)]
            opaque = part[2:-2, 2:-2, 3]
            assert (opaque == 0).all() if cell in cells else (opaque > 150).all()
            if cell in cells:
                assert (part[..., 3] == 0).all(), "no line covers a kept cell"
    edge = tiles[1][tall - 1, wide : 2 * wide]  # cell 1 above cell 4: the line is below
    assert (edge[:, 3] == 0).all()
    line = tiles[1][tall, wide : 2 * wide]
    assert (line[:, :3] == 255).all() and (line[:, 3] > 200).all()
    assert (tiles[2][..., :3] < 60).all(), "nothing was kept, so there is no line"


def test_a_full_model_has_no_mask_and_a_sheet_without_pictures_has_its_cells():
    whole = sheets.fragment(sheet(slots=[range(6)] * 3))
    assert "--mask" not in whole
    bare = sheets.fragment(sheet(frames=()))
    assert "--frames" not in bare
    tall, wide = embedded(bare, "mask").shape[:2]
    assert tall == wide * 2, "three frames of 2 x 3 square cells"


def test_sheets_share_the_thumbnails_of_the_element_around_them():
    strip = sheets.strip(frames(3))
    html = sheets.fragment(sheet(), strip)
    assert "--frames" not in html
    assert "--frames:url(data:image/jpeg" in strip.style
    alone = sheets.standing(sheet(), strip)
    assert alone.count(strip.uri) == 1 and sheets.css() in alone


def test_frames_of_several_sizes_keep_their_shape_and_their_cells():
    mixed = [*frames(1, 40, 80), *frames(1, 80, 40)]
    strip = sheets.strip(mixed, height=40)
    picture = pixels(strip.uri)
    assert picture.shape[:2] == (80, 80)
    second = picture[40:, ..., :3]
    assert second[:, :15].max() < 40 and second[:, 65:].max() < 40
    assert second[20, 40, 0] > 150
    over = pixels(mask([[0], [0]], [(1, 2), (2, 1)], [(40, 80), (80, 40)]))
    tall, wide = over.shape[0] // 2, over.shape[1]
    narrow = over[tall:, round(wide * 0.375) + 2 : round(wide * 0.625) - 2, 3]
    assert (narrow[: tall // 2 - 1] == 0).all()
    assert (narrow[tall // 2 + 2 :] > 150).all()


def test_many_frames_lie_in_columns_of_both_pictures():
    many = sheet(frames=frames(70, 8, 8), slots=[[0]] * 69 + [[]], grids=[(1, 1)] * 70)
    html = sheets.fragment(many)
    picture, over = embedded(html, "frames"), embedded(html, "mask")
    assert picture.shape[:2] == (32 * 64, 3 * 64)
    assert np.abs(picture[32, 64 + 32, :3].astype(int) - COLOURS[32 % 3]).max() < 6
    assert "--x:2;--y:5" in html and "--n:3;--r:32" in html
    tall, wide = over.shape[0] // 32, over.shape[1] // 3
    dark = over[..., 3].reshape(32, tall, 3, wide).max((1, 3)) > 0
    assert np.argwhere(dark).tolist() == [[5, 2]]


def test_a_jpeg_keeps_to_the_bytes_that_are_allowed():
    noise = np.random.default_rng(0).integers(0, 255, (16, 96, 96, 3), dtype=np.uint8)
    free = sheets.jpeg(list(noise))
    tight = sheets.jpeg(list(noise), most=len(free) // 2)
    assert len(tight) <= len(free) // 2
    assert sheets.jpeg(list(noise), most=len(free)) == free
    with pytest.raises(ValueError, match="no frames"):
        sheets.jpeg([])


def test_curves_say_in_words_what_they_draw():
    given = sheet(
        weights=[1, 6, 3], layers=[18, 18, 8, 4], decode=[8, 8, 5], evidence=[1], merged=True
    )
    weights, layers, steps = charts(given)
    assert weights.words == "frame 2 60.0 %, frame 3 30.0 %, frame 1 10.0 %"
    assert [star.x for star in weights.stars] == [120]
    assert layers.words == "layers 0 to 1: 18; layer 2: 8; layer 3: 4"
    assert steps.words == "steps 1 to 2: 8; step 3: 5"
    assert layers.top == "18" and layers.path.startswith("M0 2V2H120V")
    html = sheets.fragment(given)
    assert all(one.words in words(html) for one in (weights, layers, steps))
    assert "may stand for several" in html
    assert "(44.4 %) in the last layer, 66.7 % mean over layers" in words(html)
    assert "mean over layers" not in sheets.fragment(sheet(layers=[8, 8]))
    even = next(charts(sheet(weights=[1, 1, 1])))
    assert even.words == "nearly even, at most 33.3 %"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"slots": [[0], [6], []]}, "slots"),
        ({"weights": [1, 2]}, "2 weights"),
        ({"frames": frames(2)}, "2 frames"),
        ({"evidence": [3]}, "evidence"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        sheet(**wrong)


def test_a_page_is_whole_and_asks_nothing_of_the_network():
    html = sheets.page("a < b", sheets.fragment(sheet()))
    assert html.startswith("<!doctype html>") and "<title>a &lt; b</title>" in html
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"(?:src|href)=|@import|https?://", html)
