"""Whether what `python -m build` wrote is fit to be released: one wheel and one source
distribution, of one version everywhere, both with the whole package.

    python .github/check_dist.py dist --tag v0.2.0

Without a tag the changelog may still say that the version is unreleased.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import yaml
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename
from packaging.utils import parse_sdist_filename as sdist_name
from packaging.utils import parse_wheel_filename as wheel_name

ROOT = Path(__file__).resolve().parent.parent
NAME, PACKAGE = "tokenprune-video", "tokenprune"


def complaints(dist: Path, tag: str | None, root: Path = ROOT) -> Iterator[str]:
    """What is wrong, a line each; nothing of it where all is well."""
    files = sorted(file.name for file in dist.iterdir() if file.is_file())
    wheels = [name for name in files if name.endswith(".whl")]
    sources = [name for name in files if name.endswith(".tar.gz")]
    if len(wheels) != 1 or len(sources) != 1 or len(files) != 2:
        yield f"{dist} has to hold one wheel and one .tar.gz, not {', '.join(files) or 'nothing'}"
        return
    try:
        name, version, *_ = wheel_name(wheels[0])
        source, source_version = sdist_name(sources[0])
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        yield str(error)
        return
    if {name, source} != {NAME}:
        yield f"the files are of {name} and {source}, not of {NAME}"
    if version != source_version:
        yield f"the wheel is of {version} and the source distribution of {source_version}"
    yield from of_version(str(version), tag, root)
    yield from of_wheel(dist / wheels[0], str(version))
    yield from missing(dist / wheels[0], dist / sources[0])


def of_version(version: str, tag: str | None, root: Path) -> Iterator[str]:
    """Tag, citation and changelog that are of another version."""
    if tag is not None and tag != f"v{version}":
        yield f"the tag is {tag} and the package {version}: the tag has to be v{version}"
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    if str(cited) != version:
        yield f"CITATION.cff says version {cited} and the package {version}"
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    head = re.search(r"^## (.+)$", text, re.MULTILINE)
    if head is None or head[1].split()[0] != version:
        yield f"CHANGELOG.md begins with {head and head[1]!r} and not with {version}"
    elif tag is not None and not re.fullmatch(r"\S+ \(\d{4}-\d\d-\d\d\)", head[1]):
        yield f"CHANGELOG.md says {head[1]!r}: a release has a date, as in '{version} (2028-01-31)'"


def of_wheel(wheel: Path, version: str) -> Iterator[str]:
    """A wheel whose own page says something else, or says nothing."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (page,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = HeaderParser().parsestr(archive.read(page).decode("utf-8"))
    if (said["Name"], said["Version"]) != (NAME, version):
        yield f"the wheel's METADATA is of {said['Name']} {said['Version']}"
    if not said.get_payload():
        yield "the wheel has no description: `readme` of pyproject.toml"
    if not any("/licenses/" in name for name in names):
        yield "the wheel holds no license"
    allowed = (f"{PACKAGE}/", f"{NAME.replace('-', '_')}-{version}.dist-info/")
    if strange := [name for name in names if not name.startswith(allowed)]:
        yield f"the wheel would also install {', '.join(strange[:5])}"


def missing(wheel: Path, source: Path) -> Iterator[str]:
    """Files of the package that the source distribution lacks."""
    with zipfile.ZipFile(wheel) as archive:
        package = {name for name in archive.namelist() if name.startswith(f"{PACKAGE}/")}
    with tarfile.open(source) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    if lost := sorted(package - there):
        yield f"{len(lost)} files are in the wheel only, such as {lost[0]}"


def main() -> int:
    """Exit status 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("dist", type=Path)
    parser.add_argument("--tag")
    given = parser.parse_args()
    found = list(complaints(given.dist, given.tag))
    for line in found:
        print(f"check_dist: {line}", file=sys.stderr)
    if not found:
        print(
            f"{', '.join(sorted(file.name for file in given.dist.iterdir()))}: fit to be released"
        )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
