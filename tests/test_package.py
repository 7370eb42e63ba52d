"""What is installed: the wheel, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def test_the_wheel_contains_every_strategy_and_the_embedded_model(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(built).namelist())
    for folder in ("strategies", "adapters", "tasks", "checkpoints", "papers"):
        for file in (ROOT / "tokenprune" / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert file.relative_to(ROOT).as_posix() in names
    assert {
        "tokenprune/checkpoints/tiny/model.safetensors",
        "tokenprune/strategies/dycoke.py",
    } <= names
    assert not any(name.startswith(("tests/", "strategies/", "experiments/")) for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)
    table = yaml.safe_load(zipfile.ZipFile(built).read("tokenprune/papers/dycoke/table1.yaml"))
    assert table["rows"][0]["method"] == "Full"
    assert Path(built).stat().st_size < 10_000_000


def test_the_source_distribution_contains_the_package_once(tmp_path):
    """Links at the root lead into the package: a build from it needs the files themselves."""
    from hatchling.builders.sdist import SdistBuilder

    (built,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for file in (ROOT / "tokenprune").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert file.relative_to(ROOT).as_posix() in names
    assert not any(name.startswith(("strategies/", "experiments/dycoke")) for name in names)
    for name in (ROOT / "experiments").glob("*.yaml"):
        assert f"experiments/{name.name}" in names


def imported_by(code: str) -> set[str]:
    """Top-level modules that running `code` in a new interpreter imports."""
    script = (
        f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {
    "torch",
    "transformers",
    "lightning",
    "numpy",
    "rich",
    "omegaconf",
    "av",
    "scipy",
    "jaxtyping",
}


def test_importing_the_package_imports_nothing_heavy():
    assert not imported_by("import tokenprune") & HEAVY


def test_help_imports_nothing_heavy():
    help_page = (
        "import contextlib, io\nfrom tokenprune.cli.main import main\nwith "
        "contextlib.redirect_stdout(io.StringIO()):"
    )
    assert (
        not imported_by(f"{help_page}\n    try: main(['--help'])\n    except SystemExit: pass")
        & HEAVY
    )


def test_listing_strategies_needs_no_model_library():
    code = "from tokenprune import registry\nassert 'dycoke' in registry.names()"
    assert not imported_by(code) & {"transformers", "lightning", "av", "scipy"}


def versions(file: str) -> dict[str, Version]:
    """By normalised name, what a constraints file pins."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins
    }


def test_both_ends_of_every_range_are_pinned():
    """constraints-lowest.txt holds the floors of pyproject.toml, constraints.txt something newer
    within the range.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest, newest = versions("constraints-lowest.txt"), versions("constraints.txt")
    ranges = {
        canonicalize_name(one.name): one.specifier
        for one in map(Requirement, project["dependencies"])
    }
    assert ranges.keys() == lowest.keys()
    assert ranges.keys() <= newest.keys()
    for name, allowed in ranges.items():
        (floor,) = (Version(one.version) for one in allowed if one.operator == ">=")
        assert lowest[name].release[: len(floor.release)] == floor.release, (
            f"{name}: {lowest[name]} is not the floor"
        )
        assert lowest[name] in allowed
        assert newest[name] in allowed
        assert lowest[name] <= newest[name]
