"""What is installed: the wheel, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_contains_every_strategy_and_the_embedded_model(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(built).namelist())
    for folder in ("strategies", "adapters", "tasks", "models"):
        for file in (ROOT / "tokenprune" / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert file.relative_to(ROOT).as_posix() in names
    assert {"tokenprune/models/tiny/model.safetensors", "tokenprune/strategies/dycoke.py"} <= names
    assert not any(name.startswith(("tests/", "strategies/", "experiments/")) for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)
    assert Path(built).stat().st_size < 10_000_000


def imported_by(code: str) -> set[str]:
    """Top-level modules that running `code` in a new interpreter imports."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {"torch", "transformers", "lightning", "numpy", "rich", "omegaconf", "av", "scipy", "jaxtyping"}


def test_importing_the_package_imports_nothing_heavy():
    assert not imported_by("import tokenprune") & HEAVY


def test_help_imports_nothing_heavy():
    help_page = (
        "import contextlib, io\nfrom tokenprune.cli import main\nwith contextlib.redirect_stdout(io.StringIO()):"
    )
    assert not imported_by(f"{help_page}\n    try: main(['--help'])\n    except SystemExit: pass") & HEAVY


def test_listing_strategies_needs_no_model_library():
    code = "from tokenprune import registry\nassert 'dycoke' in registry.names()"
    assert not imported_by(code) & {"transformers", "lightning", "av", "scipy"}
