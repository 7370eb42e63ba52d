"""The benchmarks' naive references and our operators give the same results, on small inputs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_operators_equal_their_naive_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    operators = __import__("operators")
    monkeypatch.setattr(operators, "WIDTH", 24)
    names = set()
    for case in operators.cases(frames=9, cells=49, patches=100):
        case.check(case.reference(), case.ours())
        names.add(case.name)
    assert names >= set(operators.CLAIMS)
