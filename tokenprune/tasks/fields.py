"""Fields of an annotated sample: text, numbers, files, options and the right one of them."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenprune.errors import TaskError
from tokenprune.tasks.choice import FEWEST, MOST


def named(video: Path, folder: Path) -> str:
    """One name for one file, however it is written; without the place of `folder`, where it lies
    inside.
    """
    found, home = video.resolve(), folder.resolve()
    return (found.relative_to(home) if found.is_relative_to(home) else found).as_posix()


def paths(where: str, raw: Mapping[str, Any], field: str, folder: Path) -> tuple[Path, ...]:
    """The files of a field, a name or a list of names, relative to the folder of the annotations;
    none where the field is missing.
    """
    given = raw.get(field)
    if given is None:
        return ()
    if not isinstance(given, list):
        return (_file(where, text(where, raw, field), field, folder),)
    if not given or not all(isinstance(name, str) and name.strip() for name in given):
        raise TaskError(
            f'{where}: {field} is a file, or a list of files as in ["a", "b"], not {given!r}'
        )
    return tuple(_file(where, name, field, folder) for name in given)


def _file(where: str, name: str, field: str, folder: Path) -> Path:
    if "://" in name:
        raise TaskError(
            f"{where}: the {field.removesuffix('s')} {name} is an address: download it, and name "
            "the file"
        )
    file = folder / Path(name).expanduser()
    if not file.is_file():
        hint = ": write / between folders" if "\\" in name else ""
        what = "there is no video" if field == "video" else f"{field}: there is no file"
        raise TaskError(f"{where}: {what} {file}{hint}")
    return file


def options_of(where: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts to choose from, without letters of their own (`A.

    red`); none where the field is missing or null.
    """
    options = raw.get("options")
    if options is None:
        return ()
    if not isinstance(options, list) or not all(
        isinstance(option, str) and option.strip() for option in options
    ):
        raise TaskError(
            f'{where}: options is a list of texts, as in ["red", "blue"], not {options!r}'
        )
    if not FEWEST <= len(options) <= MOST:
        raise TaskError(f"{where}: {len(options)} options: write {FEWEST} to {MOST}")
    bare = [" ".join(option.split()).casefold() for option in options]
    if twice := next((option for n, option in enumerate(options) if bare[n] in bare[:n]), None):
        raise TaskError(f"{where}: the option {twice!r} is there twice: leave one of them out")
    options = [option.strip() for option in options]
    labels = [re.match(r"\(?([A-Z])[.):]\s*(?=\S)", option) for option in options]
    if all(
        label and label[1] == letter
        for label, letter in zip(labels, string.ascii_uppercase, strict=False)
    ):
        options = [
            option[label.end() :] for option, label in zip(options, labels, strict=True) if label
        ]
    return tuple(options)


def choice(where: str, raw: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """The text of the right option, which `answer` names by its text, its letter or its number from
    0.
    """
    answer = raw.get("answer")
    if not whole(answer, 0):
        answer = text(where, raw, "answer").strip()
    named = {n for n, option in enumerate(options) if option.casefold() == str(answer).casefold()}
    letters = string.ascii_uppercase[: len(options)]
    letter = re.fullmatch(r"[(\[]?([A-Za-z])[)\].]?", str(answer))
    place = answer if isinstance(answer, int) else letters.find(letter[1].upper()) if letter else -1
    found = named | ({place} & set(range(len(options))))
    if not found:
        raise TaskError(
            f"{where}: the answer {answer!r} is not among the options: write the text of one, a "
            "letter from A to "
            f"{letters[-1]}, or a number from 0 to {len(options) - 1}"
        )
    if len(found) > 1:
        instead = "letter" if isinstance(answer, int) else "number, counted from 0,"
        raise TaskError(
            f"{where}: the answer {answer!r} is the text of one option and the place of another: "
            f"write the {instead} of the right one"
        )
    return options[found.pop()]


def text(where: str, raw: Mapping[str, Any], field: str, default: str | None = None) -> str:
    if field not in raw and default is not None:
        return default
    if field not in raw:
        raise TaskError(f"{where}: the field {field!r} is missing")
    if not isinstance(raw[field], str) or not raw[field].strip():
        raise TaskError(f"{where}: the field {field!r} has to be text, not {raw[field]!r}")
    return raw[field]


def whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
