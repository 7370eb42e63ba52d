"""Kept cells on disk: what is packed comes back, and takes at most two characters each."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenprune.runtime.report import SampleReport
from tokenprune.runtime.slots import pack, unpack
from tokenprune.tokens import Video


def told(slots: list[list[int]], cells: int) -> dict[str, Any]:
    """`tokens` of a record, as a reader of `records.jsonl` has it."""
    videos = (Video(len(slots), 1, cells),)
    report = SampleReport(videos, layers=[sum(map(len, slots))], slots=slots)
    return json.loads(json.dumps(report.as_dict()))


@st.composite
def kept(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    """Cells of up to 9 frames in any order, and how many a frame has."""
    cells = draw(st.integers(1, 4096))
    few = st.lists(st.integers(0, cells - 1), unique=True, max_size=12)
    many = st.integers(0, cells).map(lambda start: list(range(start, cells)))
    return draw(st.lists(few | few.map(sorted) | many, min_size=1, max_size=9)), cells


@given(kept())
def test_what_is_packed_comes_back_in_its_order(case: tuple[list[list[int]], int]) -> None:
    slots, cells = case
    tokens = told(slots, cells)
    assert unpack(tokens) == slots
    (text,) = tokens["slots"].values()
    assert len(text) <= 2 * sum(map(len, slots)) + 4, (
        "the last four characters of base64 may be filled up"
    )


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_long_sample_stays_small(share: float, ordered: bool) -> None:
    """32 frames of 196 cells are 6,272 tokens; braces and name count, too."""
    draw, number = random.Random(0), round(196 * share)
    slots = [draw.sample(range(196), number) for _ in range(32)]
    slots = [sorted(frame) for frame in slots] if ordered else slots
    tokens = told(slots, 196)
    assert unpack(tokens) == slots
    assert len(json.dumps(tokens["slots"])) <= 2 * 32 * number


def test_the_formats_are_what_the_documentation_says() -> None:
    """One bit per cell against three bits per slot, of two frames of eight cells."""
    assert pack([[0, 1, 2, 3, 4, 5], [0, 7]], 8) == {"bitmap": "/IE="}  # 11111100 10000001
    assert pack([[7], [1]], 8) == {"list": "5A=="}  # 111 001 00
    assert pack([[1, 0], []], 2) == {"list": "gA=="}  # 1 0 000000: their order says something


def test_earlier_records_and_whole_videos_are_read() -> None:
    plain = {"full": 8, "kept_per_frame": [2, 1], "slots": [[3, 0], [2]]}
    assert unpack(plain) == [[3, 0], [2]]
    assert unpack({"full": 6, "kept_per_frame": [3, 3]}) == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("slots", [{"list": "AA=="}, {"list": "5"}, {"runs": ""}, None, 3])
def test_damaged_slots_are_refused(slots: Any) -> None:
    with pytest.raises(ValueError, match=r"slots|base64|padding"):
        unpack({"full": 800, "kept_per_frame": [3, 3], "slots": slots})


def test_a_slot_outside_the_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="slots from 0 to 8 of a frame of 8 cells"):
        pack([[0], [8]], 8)
