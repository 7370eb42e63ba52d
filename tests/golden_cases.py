"""The golden folder, entry by entry: outputs of the methods' released code.

`TOKENPRUNE_GOLDEN` names another folder with files of the same formats (`golden/README.md`).
"""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("TOKENPRUNE_GOLDEN") or Path(__file__).parent / "golden")
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


def load(path: Path) -> Any:
    return json.loads(path.read_text()) if path.suffix == ".json" else dict(np.load(path))


FILES = {
    path.stem: load(path) for path in sorted(FOLDER.glob("*")) if path.suffix in (".json", ".npz")
}
FOUND: set[str] = set()


def listed(key: str | None = None) -> list[Any]:
    """One parameter for every entry of a list in the JSON files: of a key, or the file itself."""
    cases = []
    for file, content in FILES.items():
        entries = content if isinstance(content, list) else content.get(key, [])
        if isinstance(content, list) == (key is None) and len(entries):
            FOUND.add(file)
            cases += [
                pytest.param(case, id=f"{file}-{key or 'case'}{i}")
                for i, case in enumerate(entries)
            ]
    return cases


def named(pattern: str, of: str = "") -> list[Any]:
    """One parameter for every array of an archive whose name matches: the file, and the groups of
    the match. `of`: only archives whose name begins so, since letters repeat.
    """
    cases = []
    for file, content in FILES.items():
        if not file.startswith(of):
            continue
        matches = (
            [re.fullmatch(pattern, name) for name in content] if isinstance(content, dict) else []
        )
        cases += [
            pytest.param(file, *match.groups(), id=f"{file}-{match.string}")
            for match in matches
            if match
        ]
        FOUND.update({file} if any(matches) else ())
    return cases


def array(file: str, name: str) -> Tensor:
    return torch.from_numpy(FILES[file][name])
