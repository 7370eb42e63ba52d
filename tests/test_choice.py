"""Multiple choice: the prompt, and which option an answer chooses; annotations files with options."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_video import write_video

from tokenprune import tasks
from tokenprune.cli import main
from tokenprune.errors import TaskError
from tokenprune.tasks.choice import asked, chosen, multiple_choice

COLOURS = ("red", "blue", "dark red", "a ring")
CLEAR = {
    "B": 1,
    "b": 1,
    "(B)": 1,
    "B.": 1,
    "[B]": 1,
    "\uff22": 1,
    "**B**": 1,
    "'B'": 1,
    "B. blue": 1,
    "B) blue": 1,
    "(B) blue.": 1,
    "b. blue": 1,
    "B: it is blue": 1,
    "B - blue": 1,
    "B\nblue": 1,
    "B, because it is blue": 1,
    "B. blue, and neither A nor C": 1,
    "The answer is B": 1,
    "The answer is (B).": 1,
    "The answer is 'B'": 1,
    "the correct answer is: **B**": 1,
    "The answer is b.": 1,
    "Answer: B": 1,
    "Option B": 1,
    "I would say B": 1,
    "The answer is B. A is a colour that does not occur": 1,
    "The ball is blue (B).": 1,
    "blue": 1,
    "Blue.": 1,
    "It is blue": 1,
    "A blue ball": 1,
    "red": 0,
    "A red ball": 0,
    "A": 0,
    "A. red": 0,
    "A is correct": 0,
    "dark red": 2,
    "It is dark red.": 2,
    "a ring": 3,
    "A ring": 3,
}
UNCLEAR = (
    "", "  ", "A or B", "A, B", "(A) or (B)", "A) B)", "The answer is A or B", "A. blue", "E", "The answer is E", "red or blue", "green",
    "I think so", "none of them", "redder", "A man",
)  # fmt: skip


@pytest.mark.parametrize("prediction", CLEAR)
def test_an_answer_that_is_clear(prediction: str) -> None:
    assert chosen(prediction, COLOURS) == CLEAR[prediction]


@pytest.mark.parametrize("prediction", UNCLEAR)
def test_an_answer_that_is_not_clear_chooses_nothing(prediction: str) -> None:
    assert chosen(prediction, COLOURS) is None
    assert all(multiple_choice(prediction, option, COLOURS) == 0 for option in COLOURS)


@given(st.lists(st.text("xyz 0123", min_size=1, max_size=9), min_size=2, max_size=26), st.data())
def test_letter_and_text_choose_every_option(texts: list[str], data: st.DataObject) -> None:
    options = tuple(dict.fromkeys(f"no {' '.join(text.split())}" for text in texts))
    number = data.draw(st.integers(0, len(options) - 1))
    letter = string.ascii_uppercase[number]
    for prediction in (letter, f"({letter})", f"{letter}. {options[number]}", f"The answer is {letter}"):
        assert chosen(prediction, options) == number
    assert chosen(options[number], options) == number
    assert chosen(string.ascii_uppercase[len(options) :][:1] or "?", options) is None, "a letter of no option"


def test_a_letter_is_the_letter_where_an_options_text_is_one_too() -> None:
    assert [chosen(letter, ("B", "A", "X")) for letter in "ABCX"] == [0, 1, 2, 2]
    assert chosen("5", ("-5", "5")) == 1 and chosen("It is -5", ("-5", "5")) == 0
