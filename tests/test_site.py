"""The site of the documentation: builds strictly, names all that is public, asks no network."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zlib
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import tokenprune

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "mkdocs.yml"
NEEDED = ("mkdocs", "material", "mkdocstrings", "griffe")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout: links at the root"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of the strict build is an error."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*words, "--config-file", str(CONFIG), "--site-dir", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Fetched(HTMLParser):
    """Addresses that a browser fetches by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get("href" if tag == "link" else "src")
        if address and given.get("rel") not in {"canonical", "prev", "next"}:
            self.found.append(address)
        if "mermaid" in (given.get("class") or "").split():
            self.found.append("https://the theme's script for drawings")


def test_pages_ask_the_network_for_nothing(site: Path) -> None:
    pages = sorted(site.rglob("index.html"))  # others, of papers, have a test of their own
    assert len(pages) > 60
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        outside = [address for address in fetched.found if re.match(r"(\w+:)?//", address)]
        assert outside == [], page.relative_to(site)
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8").replace('"', "")


def described(site: Path) -> set[str]:
    """The names that the reference describes, from the list that other sites link by."""
    lines = (site / "objects.inv").read_bytes().split(b"\n", 4)
    text = zlib.decompress(lines[4]).decode()
    return {line.split(" ")[0] for line in text.splitlines()}


def test_the_reference_describes_all_that_is_public(site: Path) -> None:
    known = described(site)
    assert {f"tokenprune.{name}" for name in tokenprune.__all__} - known == set()


def test_a_link_out_of_the_documentation_leads_to_a_page_of_the_site(site: Path) -> None:
    models = (site / "models/index.html").read_text(encoding="utf-8")
    assert 'href="../source/tokenprune/adapters/gemma3.py/"' in models
    shown = (site / "source/tokenprune/adapters/gemma3.py/index.html").read_text(encoding="utf-8")
    assert "layers that look back a window" in shown
    index = (site / "source/experiments/index.html").read_text(encoding="utf-8")
    assert 'href="dytok/table1.yaml/"' in index


def test_a_drawing_is_a_table(site: Path) -> None:
    rooms = (site / "design/rooms/index.html").read_text(encoding="utf-8")
    assert "<th>rests on</th>" in rooms
    assert "graph TD" not in rooms


def test_what_makes_the_site_is_no_part_of_it(site: Path) -> None:
    assert not (site / "generate.py").exists()
    assert not (site / "hooks").exists()
    assert (site / "examples/norm.py").exists()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
SEEN = ["index.html", "models/", "design/rooms/", "reference/contract/", "gallery/", "faq/"]


@pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason="no chromium or no playwright here",
)
def test_in_a_browser(site: Path) -> None:
    """Narrow and wide: nothing is asked of another host, nothing is wider than the window."""
    from playwright.sync_api import sync_playwright

    handler = partial(Silent, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        home, asked = f"http://127.0.0.1:{server.server_port}/", []
        try:
            with sync_playwright() as tool:
                browser = tool.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
                page = browser.new_page()
                page.on("request", lambda request: asked.append(request.url))
                for name in SEEN:
                    page.goto(home + name)
                    for width in (360, 1440):
                        page.set_viewport_size({"width": width, "height": 900})
                        over = page.evaluate("document.documentElement.scrollWidth") - width
                        assert over <= 0, (name, width)
                browser.close()
        finally:
            server.shutdown()
    assert len(asked) > len(SEEN)
    assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []


class Silent(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass
