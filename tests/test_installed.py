"""Packages nearby that do not fit are named in one line, and nothing is imported before a model is
needed.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tokenprune.cli.main import main
from tokenprune.errors import LmmsError, LoadingError
from tokenprune.loading import installed

NMS = "operator torchvision::nms does not exist"
BROKEN = {
    "RuntimeError": f"raise RuntimeError('{NMS}')",
    "OSError": "raise OSError('libtorchvision.so: undefined symbol: _ZN3c10')",
    "AttributeError": "raise AttributeError('partially initialized module')",
    "ImportError": "from torch import this_name_is_gone",
}


@pytest.fixture
def nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched before all others."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def package(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    (folder / f"{name}-0.99.dist-info").mkdir()
    (folder / f"{name}-0.99.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.99\n"
    )


@pytest.mark.parametrize("kind", BROKEN)
def test_a_torchvision_for_another_torch_is_named(
    kind: str, nearby: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    package(nearby, "torchvision", BROKEN[kind])
    with pytest.raises(
        LoadingError, match=rf"torchvision 0.99 cannot be imported beside torch \d.*\({kind}: "
    ):
        installed.check()
    for words in (
        ["run", "strategy=fastv"],
        ["show", "strategy=fastv", "keep=0.5"],
        ["sweep", "strategy=fastv"],
        ["bench", "strategy=fastv", f"out={nearby / 'out'}"],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("tokenprune: error: torchvision 0.99") and said.count("\n") == 1, (
            words
        )
        assert "pip uninstall torchvision" in said
    assert main(["list"]) == main(["show", "strategy=fastv"]) == 0, "nothing here needs a model"


def test_before_anything_else_is_imported(nearby: Path) -> None:
    """In a process of its own, where transformers was not imported before."""
    package(nearby, "torchvision", BROKEN["RuntimeError"])
    code = (
        f"import sys; sys.path.insert(0, {str(nearby)!r})\nfrom tokenprune.cli.main import main\n"
        "sys.exit(main(['run', 'strategy=fastv']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=nearby)
    assert done.returncode == 2 and NMS in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1 and not (nearby / "runs").exists()


def test_what_fits_is_no_matter(nearby: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it would look for more than the package below has
    importlib.import_module("transformers.modeling_utils")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    package(nearby, "torchvision", "")
    installed.check()
    del sys.modules["torchvision"]  # for good: monkeypatch would put it back


def test_a_filelock_that_lmms_eval_cannot_work_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its evaluator, that is: its tasks need none."""
    there = {"lmms_eval", "filelock._api"}
    monkeypatch.setattr(installed, "_there", lambda name: name in there)
    monkeypatch.setattr(installed, "_versioned", lambda name: f"{name} 9.9")
    installed.check_lmms(evaluates=True)
    there.remove("filelock._api")
    installed.check_lmms()
    with pytest.raises(
        LmmsError,
        match=r"lmms_eval 9.9 does not work with filelock 9.9: pip install 'filelock<4.3'",
    ):
        installed.check_lmms(evaluates=True)
    there.clear()
    with pytest.raises(LmmsError, match="lmms-eval is not installed"):
        installed.check_lmms(evaluates=True)
