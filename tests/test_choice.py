"""Multiple choice: the prompt, which option an answer chooses, annotations files with options."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from clips import write_video
from hypothesis import given
from hypothesis import strategies as st

from tokenprune import tasks
from tokenprune.cli.main import main
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
SEVERAL = (
    "A or B",
    "A, B",
    "(A) or (B)",
    "A) B)",
    "The answer is A or B",
    "A. blue",
    "red or blue",
)
UNCLEAR = (
    *SEVERAL,
    "",
    "  ",
    "E",
    "The answer is E",
    "green",
    "I think so",
    "none of them",
    "redder",
    "A man",
)


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
    for prediction in (
        letter,
        f"({letter})",
        f"{letter}. {options[number]}",
        f"The answer is {letter}",
    ):
        assert chosen(prediction, options) == number
    assert chosen(options[number], options) == number
    assert chosen(string.ascii_uppercase[len(options) :][:1] or "?", options) is None, (
        "a letter of no option"
    )


def test_a_letter_is_the_letter_where_an_options_text_is_one_too() -> None:
    assert [chosen(letter, ("B", "A", "X")) for letter in "ABCX"] == [0, 1, 2, 2]
    assert chosen("5", ("-5", "5")) == 1 and chosen("It is -5", ("-5", "5")) == 0


def test_the_prompt_asks_for_the_letter() -> None:
    assert asked("Which?", ()) == "Which?"
    assert asked("Which?", ("red", "blue")) == (
        "Which?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."
    )
    assert asked("Which?", [str(n) for n in range(26)]).splitlines()[26] == "Z. 25"


# ---- annotations files

GOOD: dict[str, Any] = {
    "id": "a",
    "video": "a.mp4",
    "question": "Which?",
    "answer": "red",
    "options": ["red", "blue"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("choice")
    write_video(home / "a.mp4", codec="libx264", frames=8)
    return home


def build(folder: Path, *entries: Any, name: str = "x.jsonl") -> tasks.Task:
    (folder / name).write_text("\n".join(json.dumps(entry) for entry in entries), encoding="utf-8")
    return tasks.build(f"files:{folder / name}", samples=None, frames=8, seed=0)


@pytest.mark.parametrize(
    ("answer", "options", "right"),
    [
        ("blue", ["red", "blue"], "blue"),
        ("Blue ", ["red", " blue"], "blue"),
        ("B", ["red", "blue"], "blue"),
        ("(b)", ["red", "blue"], "blue"),
        (1, ["red", "blue"], "blue"),
        (0, ["red", "blue"], "red"),
        ("A", ["A", "B"], "A"),
        (1, ["0", "1"], "1"),
        ("1", ["1", "2"], "1"),
        ("Z", [f"no {n}" for n in range(26)], "no 25"),
        ("B", ["A. red", "B. blue"], "blue"),
        ("blue", ["(A) red", "(B) blue"], "blue"),
        ("A. red", ["A. red", "blue"], "A. red"),
    ],
)
def test_the_answer_is_a_text_a_letter_or_a_number(
    folder: Path, answer: Any, options: list[str], right: str
) -> None:
    task = build(folder, GOOD | {"answer": answer, "options": options})
    sample, label = task[0], task.label(0)
    assert sample.answer == label.answer == right and sample.metric == "multiple_choice"
    assert (
        sample.options == label.options
        and right in sample.options
        and len(sample.options) == len(options)
    )
    letter = string.ascii_uppercase[sample.options.index(right)]
    assert sample.question == "Which?" and f"\n{letter}. {right}\n" in sample.full_question
    assert task.score(letter, sample) == task.score(f"{letter}. {right}", sample) == 1
    assert task.score("neither", sample) == 0


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "text": (
        {"answer": "green"},
        "the answer 'green' is not among the options: write the text of one, a letter from A",
    ),
    "letter": ({"answer": "C"}, "the answer 'C' is not among the options"),
    "number": (
        {"answer": 2},
        "the answer 2 is not among the options: write the text of one, a letter from A to B, or",
    ),
    "below": ({"answer": -1}, "the field 'answer' has to be text, not -1"),
    "truth": ({"answer": True}, "the field 'answer' has to be text, not True"),
    "both": (
        {"answer": "A", "options": ["B", "A"]},
        "is the text of one option and the place of another: write the number",
    ),
    "places": ({"answer": 1, "options": ["1", "2"]}, "write the letter of the right one"),
    "twice": ({"options": ["red", "Red "]}, "the option 'Red ' is there twice"),
    "one": ({"options": ["red"]}, "1 options: write 2 to 26"),
    "none": ({"options": []}, "0 options: write 2 to 26"),
    "many": ({"options": [f"no {n}" for n in range(27)]}, "27 options: write 2 to 26"),
    "mapping": ({"options": {"A": "red"}}, "options is a list of texts"),
    "numbers": ({"options": [1, 2]}, "options is a list of texts"),
    "blank": ({"options": ["red", " "]}, "options is a list of texts"),
    "metric": (
        {"metric": "exact_match"},
        "is scored by multiple_choice, not by exact_match: leave metric out",
    ),
    "no options": (
        {"options": None, "metric": "multiple_choice"},
        "multiple_choice needs options: add them",
    ),
    "address": (
        {"video": "https://example.org/a.mp4"},
        "is an address: download it, and name the file",
    ),
    "backslash": ({"video": "videos\\a.mp4"}, "write / between folders"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_options_that_cannot_be_are_refused_with_their_line(kind: str, folder: Path) -> None:
    change, message = WRONG[kind]
    with pytest.raises(TaskError, match=r"x.jsonl, line 2: ") as caught:
        build(folder, GOOD, GOOD | {"id": "b"} | change)
    assert message in str(caught.value)


def test_options_are_part_of_what_results_are_kept_for(folder: Path) -> None:
    prints = [
        build(folder, GOOD | {"options": options}).fingerprint()
        for options in (["red", "blue"], ["blue", "red"])
    ]
    assert prints[0] != prints[1] != build(folder, GOOD | {"options": None}).fingerprint()


ENCODINGS = {
    "utf-8": None,
    "utf-8-sig": None,
    "utf-16": "is text in UTF-16 or UTF-32, not in UTF-8: save it as UTF-8",
    "utf-16-le": "is text in UTF-16 or UTF-32, not in UTF-8: save it as UTF-8",
    "utf-32": "not in UTF-8: save it as UTF-8",
    "utf-32-be": "not in UTF-8: save it as UTF-8",
    "latin-1": "line 2: this is not text in UTF-8: save it as UTF-8",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.JSONL", "x.ndjson"])
def test_how_the_file_is_encoded(encoding: str, name: str, folder: Path) -> None:
    """With the line ends of Windows, and empty lines."""
    first, second = (json.dumps(GOOD | {"id": one}, ensure_ascii=False) for one in ("a", "\xe9"))
    text = f"[{first},\r\n{second}\r\n]\r\n" if name == "x.json" else f"{first}\r\n{second}\r\n\r\n"
    (folder / name).write_bytes(text.encode(encoding))
    reason = ENCODINGS[encoding]
    if reason is None:
        task = tasks.build(f"files:{folder / name}", samples=None, frames=8, seed=0)
        assert [task.label(i).id for i in range(2)] == ["a", "\xe9"]
        return
    with pytest.raises(TaskError) as caught:
        tasks.build(f"files:{folder / name}", samples=None, frames=8, seed=0)
    assert reason in str(caught.value) and name in str(caught.value)


def test_files_that_were_joined(folder: Path) -> None:
    lines = [json.dumps(GOOD | {"id": one}) for one in "ab"]
    (folder / "joined.jsonl").write_text("\ufeff" + "\n\ufeff".join(lines), encoding="utf-8")
    assert len(tasks.build(f"files:{folder / 'joined.jsonl'}", samples=None, frames=8, seed=0)) == 2


DAMAGED = {
    'x.json [{"id": "a"},\n]': "x.json, line 1: not valid JSON (a comma before the closing "
    "bracket: remove it)",
    'x.json [{"id": "a",}]': "a comma before the closing bracket: remove it",
    'x.jsonl {"id": "a"},': "x.jsonl, line 1: not valid JSON (more than one object in a line: "
    "write a sample a line",
    'x.json {"id": "a"}\n{"id": "b"}': "a second object after the first: write a list of samples, "
    "or name",
    "x.json [{'id': 'a'}]": "write double quotes",
    'x.json [{"id": NaN}]': "x.json: NaN is not JSON: write a number, or leave the field out",
    'x.jsonl {"id": -Infinity}': "x.jsonl, line 1: -Infinity is not JSON",
    "x.json ": "x.json, line 1: not valid JSON",
}


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_files_say_what_to_write(content: str, folder: Path) -> None:
    name, _, text = content.partition(" ")
    (folder / name).write_text(text)
    with pytest.raises(TaskError) as caught:
        tasks.build(f"files:{folder / name}", samples=None, frames=8, seed=0)
    assert DAMAGED[content] in str(caught.value)


def test_a_run_says_what_could_not_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was asked, the options and how each answer was read are in the records; counts are in
    the summary.
    """
    build(folder, GOOD, GOOD | {"id": "b", "options": None}, name="run.jsonl")
    words = [
        "strategy=fastv",
        f"task=files:{folder / 'run.jsonl'}",
        "frames=8",
        "max_new_tokens=3",
        "device=cpu",
    ]
    assert main(["run", *words, f"out={folder / 'out'}"]) == 0
    summary = json.loads((folder / "out" / "summary.json").read_text())
    choice, plain = (
        json.loads(line) for line in (folder / "out" / "records.jsonl").read_text().splitlines()
    )
    assert choice["question"] == plain["question"] == "Which?" and plain["options"] == []
    assert (
        choice["options"] == ["red", "blue"]
        and asked("Which?", ["red", "blue"]) in choice["prompt"]
    )
    counts = {"empty": 0, "unparsed": 0, "guessed": 0}
    for role in ("strategy", "vanilla", "random"):
        wanted = {**counts}
        for record in (choice, plain):
            reading = record[role]["reading"]
            if reading != "read":
                wanted[reading] += 1
        assert {name: summary["systems"][role][name] for name in counts} == wanted
    own = choice["strategy"]
    number = chosen(own["prediction"], ["red", "blue"])
    assert own["reading"] == ("unparsed" if number is None else "read")
    assert own["score"] == (number == 0)
    said = "could not be read as one of the options" in capsys.readouterr().out
    assert said == any(
        summary["systems"][role]["unparsed"] for role in ("strategy", "vanilla", "random")
    )
    compare = ["compare", str(folder / "out"), str(folder / "out")]
    assert main(compare) == 0
