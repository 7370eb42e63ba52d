"""Multiple choice: how the options are put into the prompt, and which of them an answer chooses.

The prompt has the form that VideoMME, MVBench and most others have in lmms-eval: the question, a
line `A. text` for each option, and a last line that asks for the letter. Pure functions of strings.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

METRIC = "multiple_choice"
FEWEST, MOST = 2, len(string.ascii_uppercase)  # options of a question
INSTRUCTION = "Answer with the option's letter from the given choices directly."

# "The answer is (B)", "Answer: B", "I choose option B"; what is stated may be a list, "A or B"
_LISTED = r"\(?[A-Z]\)?(?![\w'-])(?:\s*(?:,|/|&|\bor\b|\band\b)\s*\(?[A-Z]\)?(?![\w'-]))*"
_STATED = re.compile(
    r"(?i:\b(?:answer|option|choice|choose|select|pick)\b(?:\s+(?:is|would\s+be))?)"
    rf"\s*[:=]?\s*({_LISTED})"
)
_STATED_SMALL = re.compile(
    r"(?i:\b(?:answer|option|choice)\b(?:\s+is)?)\s*[:=]?\s*\(?([a-z])\)?[.!]?$"
)
_LEADING = re.compile(r"^[(\[]?([A-Za-z])(?:[)\]]+[.:,]?|[.:]|\s+-)(?:\s+|$)(.*)$", re.DOTALL)
_ALONE = re.compile(r"^\W*([A-Za-z])\W*$")
_LETTER = re.compile(r"(?<![\w'-])([A-Z])(?![\w'-])")
# "A dog", "I think": a word of the language, unless a verb follows that a letter could have
_WORD = re.compile(
    r"(?<![\w'(\[-])[AI](?=\s+(?!is\b|was\b|or\b|and\b|because\b|since\b|as\b)[a-z])"
)


def asked(question: str, options: Sequence[str]) -> str:
    """What the model is asked: the question alone, or with its options and what to answer."""
    if not options:
        return question
    lines = (
        f"{letter}. {option}"
        for letter, option in zip(string.ascii_uppercase, options, strict=False)
    )
    return "\n".join([question, *lines, INSTRUCTION])


def chosen(prediction: str, options: Sequence[str]) -> int | None:
    """The number of the option that an answer chooses, from 0; None where it is empty, unclear or
    chooses several.

    A letter may stand alone or in brackets, begin the answer (`B. red`), be stated (`The answer is
    B`), or be the only one in it. Without a letter the text of exactly one option has to occur. A
    letter beside the full text of another option is unclear.
    """
    text = _plain(prediction)
    if (alone := _ALONE.match(text)) and (number := _number(alone[1], options)) is not None:
        return number  # also where an option's text is a letter: a letter is what was asked for
    if (whole := _same(text, options)) is not None:
        return whole
    if (lead := _LEADING.match(text)) and (number := _number(lead[1], options)) is not None:
        rest = lead[2].strip()
        if (named := _same(rest, options)) is not None:
            return number if named == number else None
        if _plain(rest).casefold().startswith(_plain(options[number]).casefold()):
            return number
        if not _letters(rest, options) - {number}:
            return number
    for found in (_stated(text, options), _letters(text, options)):
        if found:
            return found.pop() if len(found) == 1 else None
    return _told(text, options)


def multiple_choice(prediction: str, answer: str, options: Sequence[str]) -> float:
    """1 if the option chosen is `answer`, which is the text of one of them; else 0, also where none
    can be read.
    """
    number = chosen(prediction, options)
    return float(number is not None and options[number] == answer)


def _plain(text: str) -> str:
    """Without emphasis, quotes, doubled blanks and the final full stop."""
    text = unicodedata.normalize("NFKC", text).replace("\u2018", "'").replace("\u2019", "'")
    text = " ".join(re.sub(r"[*_`\"\u201c\u201d]+|(?<!\w)'|'(?!\w)", " ", text).split())
    return text.removesuffix(".").rstrip()


def _number(letter: str, options: Sequence[str]) -> int | None:
    number = string.ascii_uppercase.find(letter.upper())
    return number if 0 <= number < len(options) else None


def _same(text: str, options: Sequence[str]) -> int | None:
    """The option whose text this is."""
    bare = _plain(text).casefold()
    return next((n for n, option in enumerate(options) if _plain(option).casefold() == bare), None)


def _stated(text: str, options: Sequence[str]) -> set[int]:
    named = {
        letter
        for listed in _STATED.findall(_WORD.sub(" ", text))
        for letter in _LETTER.findall(listed)
    }
    named |= set(_STATED_SMALL.findall(text))
    return _numbers(named, options)


def _letters(text: str, options: Sequence[str]) -> set[int]:
    """Options whose letter stands by itself anywhere, as a capital."""
    return _numbers(set(_LETTER.findall(_WORD.sub(" ", text))), options)


def _numbers(letters: set[str], options: Sequence[str]) -> set[int]:
    return {number for letter in letters if (number := _number(letter, options)) is not None}


def _told(text: str, options: Sequence[str]) -> int | None:
    """The one option whose text occurs, in whole words; an option inside a longer one that occurs
    does not count.
    """
    spans: dict[int, list[tuple[int, int]]] = {}
    for number, option in enumerate(options):
        pattern = rf"(?<!\w){re.escape(_plain(option).casefold() or option)}(?!\w)"
        spans[number] = [match.span() for match in re.finditer(pattern, text.casefold())]
    every = [span for found in spans.values() for span in found]
    there = {
        number for number, found in spans.items() if any(not _inside(span, every) for span in found)
    }
    return there.pop() if len(there) == 1 else None


def _inside(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(low <= span[0] and span[1] <= high and (low, high) != span for low, high in others)
