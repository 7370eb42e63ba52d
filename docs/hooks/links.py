"""Hook of MkDocs: links that lead out of `docs/`, or to a folder, lead to a page of the site.

In a checkout such a link opens a file of the project; a site has its pages only. So every file that
is linked to, and every folder's list of files, becomes a page under `source/`. Links that lead
nowhere stay as they are, and a strict build names them.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
PLACE = "source"
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[#)])")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages under `source/`: of what pages link to, and of what those link to."""
    waiting = [f"{DOCS}/{file.src_uri}" for file in files.documentation_pages()]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        for target in targets(name, text_of(name)):
            if target not in seen and not inside(target, files):
                seen.add(target)
                waiting.append(target)
                made = UNSEARCHED + text_of(target)
                files.append(File.generated(config, page_of(target), content=made))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text, in which links to files of the project name pages of the site."""
    name = original(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        target = resolved(name, link[0])
        if not (ROOT / target).exists():
            return link[0]
        place = target.removeprefix(f"{DOCS}/") if inside(target, files) else page_of(target)
        return posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(replaced, markdown)


def targets(name: str, text: str) -> Iterator[str]:
    """Files and folders of the project that the text of the file `name` links to."""
    for link in LINK.findall(text):
        target = resolved(name, link)
        if not target.startswith("..") and (ROOT / target).exists():
            yield target


def resolved(name: str, link: str) -> str:
    """Where a link in the file `name` leads, from the root of the project on."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), link))


def inside(target: str, files: Files) -> bool:
    """Whether the site has the file itself: pages, pictures and data of `docs/`."""
    return files.get_file_from_path(target.removeprefix(f"{DOCS}/")) is not None and (
        target.startswith(f"{DOCS}/")
    )


def page_of(target: str) -> str:
    """The page under `source/` that shows a file or a folder."""
    if (ROOT / target).is_dir():
        return f"{PLACE}/{target}/index.md"
    return f"{PLACE}/{target}" if target.endswith(".md") else f"{PLACE}/{target}.md"


def original(page: str) -> str:
    """The file or folder that a page shows; the opposite of `page_of`."""
    if not page.startswith(f"{PLACE}/"):
        return f"{DOCS}/{page}"
    name = page.removeprefix(f"{PLACE}/")
    for shown in (name, name.removesuffix(".md"), name.removesuffix("/index.md")):
        if (ROOT / shown).exists():
            # links in a folder's list begin with that folder's name
            return shown
    raise FileNotFoundError(page)


def text_of(name: str) -> str:
    """The Markdown that shows a file or folder of the project."""
    path = ROOT / name
    if path.is_dir():
        return listing(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    fence = "`" * (3 + text.count("```"))
    return f"# {name}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text}\n{fence}\n"


def listing(folder: Path) -> str:
    """A folder's files that people read, each with a link to its page."""
    kinds = {*LANGUAGES, ".md", ".html"} - {".json"}
    found = [file for file in sorted(folder.rglob("*")) if file.suffix in kinds]
    shown = [
        file.relative_to(folder).as_posix() for file in found if "__pycache__" not in str(file)
    ]
    name = os.path.relpath(folder, ROOT)
    links = [f"* [{file}]({folder.name}/{file})" for file in shown]
    return "\n".join([f"# {name}", "", *links, ""])
