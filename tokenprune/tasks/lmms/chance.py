"""Chance in somebody else's scoring: drawn alike for one document in every process and order, and
noticed.

Some of lmms-eval's tasks draw an option where they cannot read one (`random.choice` in NExT-QA,
EgoSchema, LongVideoBench and others), from global random state that nobody seeds for a document.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

_INVALID = "[invalid]"  # what lmms-eval's filters make of an answer they cannot read
# its tasks' names of the option they read
_READ = ("pred_answer", "pred_ans", "parsed_pred", "pred", "prediction", "pred_id")
_UNREAD = "unread"  # by which a task says so outright: true or false


@contextmanager
def seeded(what: str) -> Iterator[Callable[[], bool]]:
    """Global random state, Python's and NumPy's, that depends on `what` alone; before it is put
    back afterwards.

    Yields what says whether anything was drawn from it so far.
    """
    before, before_array = random.getstate(), np.random.get_state()
    digest = hashlib.sha256(what.encode()).digest()
    random.seed(digest)
    np.random.seed(int.from_bytes(digest[:4], "little"))
    began, began_array = random.getstate(), _numbers()

    def drawn() -> bool:
        return random.getstate() != began or _numbers() != began_array

    try:
        yield drawn
    finally:
        random.setstate(before)
        np.random.set_state(before_array)


def _numbers() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return (kind, keys.tobytes(), *rest)  # pyright: ignore[reportAttributeAccessIssue]


def unread(results: Mapping[str, Mapping[str, Any]], filtered: Mapping[str, Any]) -> bool:
    """Whether a task says that it read no option: an empty one in what it makes of the answer, or
    number -1, or its filter's mark; or in a field of that name.

    `results` are by filter and metric, `filtered` the answer by filter. Tasks that do not say so
    are taken as they are.
    """
    said = [
        value
        for found in results.values()
        for value in found.values()
        if isinstance(value, Mapping)
    ]
    outright = [value[_UNREAD] for value in said if _UNREAD in value]
    if outright:
        return any(outright)
    empty = any(name in value and value[name] in ("", None, -1) for value in said for name in _READ)
    return empty or any(text == _INVALID for text in filtered.values())
