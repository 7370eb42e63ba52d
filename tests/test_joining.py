"""What people find who want to join in, cite or release: forms, citation, workflows; all of it
parses, and agrees with pyproject.toml.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tokenprune import __version__

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
if not GITHUB.is_dir():
    pytest.skip("not a checkout: no .github here", allow_module_level=True)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = ("CONTRIBUTING.md", "SECURITY.md")
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml"))
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
# what a field of a form may be, and what it has to say
KINDS = {
    "input": {"label"},
    "textarea": {"label"},
    "dropdown": {"label", "options"},
    "checkboxes": {"label", "options"},
    "markdown": {"value"},
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_can_be_filled_in(form: Path) -> None:
    """The rules of issue forms: a wrong one is not offered at all."""
    whole = read(form)
    assert whole.keys() == {"name", "description", "title", "labels", "body"}
    identities = [field["id"] for field in whole["body"]]
    assert len(identities) == len(set(identities)) > 2
    for field in whole["body"]:
        assert re.fullmatch(r"[\w-]+", field["id"])
        assert KINDS[field["type"]] <= field["attributes"].keys()
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        for option in field["attributes"].get("options", ()):
            assert isinstance(option, dict if field["type"] == "checkboxes" else str)
    required = [one for one in whole["body"] if one.get("validations", {}).get("required")]
    assert required, "an empty report helps nobody"


def test_there_is_a_form_for_a_method_a_number_and_a_defect() -> None:
    assert [form.stem for form in FORMS] == ["bug", "new-method", "wrong-number"]
    assert len({read(form)["name"] for form in FORMS}) == 3
    assert read(GITHUB / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": True}


def test_the_citation_is_of_this_package() -> None:
    said = read(ROOT / "CITATION.cff")
    assert str(said["cff-version"]) == "1.2.0"
    assert said["type"] == "software"
    assert said["title"].startswith("tokenprune")
    assert str(said["version"]) == __version__
    assert said["license"] == PROJECT["license"]
    assert said["keywords"] == PROJECT["keywords"]
    assert all(said[needed] for needed in ("message", "abstract", "authors"))
    assert said.keys().isdisjoint({"url", "repository-code", "doi"}), "nothing has an address yet"


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_make_targets_that_are_named_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"(?:\$ |`|&& )make ([a-z-]+)", text)
    assert named
    assert set(named) <= set(targets)
    for file in re.findall(r"tests/\w+\.py", text):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: one.stem)
def test_a_workflow_is_sound(workflow: Path) -> None:
    whole = read(workflow)
    assert whole[True], "`on` is a switch to YAML"
    assert whole["permissions"] == {"contents": "read"}
    assert "secrets." not in workflow.read_text(encoding="utf-8")
    for job in whole["jobs"].values():
        assert job["timeout-minutes"] <= 120
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/x@v1"))
        version = step.get("with", {}).get("python-version")
        assert version is None or Version(version) in SpecifierSet(PROJECT["requires-python"])
        for file in re.findall(r"[\w./-]*\.(?:ci|github)/[\w./-]+", step.get("run", "")):
            assert (ROOT / file).is_file(), file


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: one.stem)
def test_commands_of_a_workflow_are_shell(workflow: Path) -> None:
    if (shell := shutil.which("bash")) is None:
        pytest.skip("no bash here")
    for step in steps(workflow):
        done = subprocess.run(
            [shell, "-n"], input=step.get("run", ""), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_a_release_is_of_what_was_checked() -> None:
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"contents": "write"}
    runs = [step.get("run", "") for step in jobs["build"]["steps"]]
    order = ["-m build", "check_dist.py dist --tag", "twine check --strict", "install dist/*.whl"]
    places = [next(at for at, run in enumerate(runs) if words in run) for words in order]
    assert places == sorted(places)


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_dist", GITHUB / "check_dist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for builder in (WheelBuilder, SdistBuilder):
        list(builder(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What speaks of versions, to be changed."""
    for name in ("CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_what_is_built_now_is_whole(check: ModuleType, dist: Path) -> None:
    assert list(check.complaints(dist, None)) == []


def test_a_release_needs_its_tag_and_a_date(check: ModuleType, dist: Path, root: Path) -> None:
    log = root / "CHANGELOG.md"
    log.write_text(f"# Changelog\n\n## {__version__} (2028-01-31)\n", encoding="utf-8")
    assert list(check.complaints(dist, f"v{__version__}", root)) == []
    (said,) = check.complaints(dist, "v9.9", root)
    assert "the tag has to be v" in said
    log.write_text(f"## {__version__} (unreleased)\n", encoding="utf-8")
    (said,) = check.complaints(dist, f"v{__version__}", root)
    assert "a release has a date" in said


def test_other_versions_are_named(check: ModuleType, dist: Path, root: Path) -> None:
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    (root / "CITATION.cff").write_text(text.replace(f"version: {__version__}", "version: 7.0"))
    (root / "CHANGELOG.md").write_text("## 6.0 (2028-01-31)\n")
    cited, logged = check.complaints(dist, None, root)
    assert "CITATION.cff says version 7.0" in cited
    assert "CHANGELOG.md begins with" in logged


def test_files_that_are_no_release(check: ModuleType, dist: Path, tmp_path: Path) -> None:
    (said,) = check.complaints(tmp_path, None)
    assert "not nothing" in said
    for file in dist.iterdir():
        shutil.copy(file, tmp_path / file.name)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tokenprune/only_here.py", "")
        archive.writestr("tests/stray.py", "")
    strange, lost = check.complaints(tmp_path, None)
    assert "would also install tests/stray.py" in strange
    assert "such as tokenprune/only_here.py" in lost
    wheel.rename(wheel.with_name("other-0.1.0-py3-none-any.whl"))
    assert any("not of tokenprune-video" in said for said in check.complaints(tmp_path, None))
