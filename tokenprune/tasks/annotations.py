"""An annotations file as plain entries, each with the words that say where it stands: JSON or
JSONL, in UTF-8.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any, NoReturn

from tokenprune.errors import TaskError

_LINES = (".jsonl", ".ndjson")
_BOM = "\ufeff"  # which Windows programs put in front of UTF-8, and `cat` into the middle of a file


def entries(path: Path) -> list[tuple[str, Any]]:
    """The samples as they stand in the file. Raises TaskError, with the line where there is one."""
    if not path.is_file():
        raise TaskError(f"there is no annotations file {path}")
    text = _text(path)
    if path.suffix.lower() in _LINES:
        lines = ((number, line.strip(_BOM)) for number, line in enumerate(text.split("\n"), 1))
        return [(f"{path}, line {n}", _parsed(path, line, n)) for n, line in lines if line.strip()]
    whole = _parsed(path, text, 1)
    samples = whole.get("samples") if isinstance(whole, dict) else whole
    if not isinstance(samples, list):
        raise TaskError(f'{path} is neither a list of samples nor an object with a list "samples"')
    return [(f"{path}, sample {n}", raw) for n, raw in enumerate(samples, 1)]


def _text(path: Path) -> str:
    """The whole file without a mark in front.

    UTF-16 and UTF-32 are refused by name: JSON is exchanged as UTF-8.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise TaskError(f"{path} is text in UTF-16 or UTF-32, not in UTF-8: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TaskError(
            f"{path}, line {line}: this is not text in UTF-8: save it as UTF-8"
        ) from None


def _parsed(path: Path, text: str, line: int) -> Any:
    """JSON that begins in `line` of the file."""

    def constant(name: str) -> NoReturn:
        raise TaskError(
            f"{path}{where}: {name} is not JSON: write a number, or leave the field out"
        )

    where = f", line {line}" if path.suffix.lower() in _LINES else ""
    try:
        return json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        comma = re.compile(r",\s*[\]}]").match(text, max(text.rfind(",", 0, error.pos + 1), 0))
        # Python 3.13 is at the comma already
        at = comma.start() if comma and comma.end() > error.pos else error.pos
        reason = _reason(path, text[at:], error.msg)
        raise TaskError(
            f"{path}, line {line + text.count(chr(10), 0, at)}: not valid JSON ({reason})"
        ) from None
    except RecursionError:
        raise TaskError(f"{path}{where}: not valid JSON (nested too deeply)") from None


def _reason(path: Path, rest: str, said: str) -> str:
    """What to write where the parser came to `rest`, or what it `said`."""
    if re.match(r",\s*[\]}]", rest):
        return "a comma before the closing bracket: remove it"
    if said == "Extra data" and path.suffix.lower() in _LINES:
        return "more than one object in a line: write a sample a line, without a comma after it"
    if said == "Extra data" and rest.startswith("{"):
        return "a second object after the first: write a list of samples, or name the file .jsonl"
    return f"{said}: write double quotes" if rest.startswith("'") else said
