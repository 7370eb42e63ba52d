"""What the docstring of a strategy says: a line for each field, under `Args:`."""

from __future__ import annotations

import inspect
import re


def field_docs(kind: type) -> dict[str, str]:
    """The meaning of each field, from the lines `name: meaning` under `Args:` of the docstring."""
    _, _, listed = (inspect.getdoc(kind) or "").partition("\nArgs:\n")
    block = re.match(r"(?:[ ]+\S.*(?:\n|$))*", listed)
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {5,}\S.*)*)", block[0] if block else "", re.M)
    return {name: " ".join(meaning.split()) for name, meaning in entries}
