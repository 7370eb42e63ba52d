"""Pages of papers in a real browser: sorting, narrow and wide windows, print.

Chromium of the distribution; where there is none, the tests are skipped.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "results" / "papers" / "dycoke.html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: {', '.join(NAMES)}")


def asked(tmp_path: Path, expression: str, width: int = 1440) -> Any:
    """What a function body, given the page's `document` as `page`, returns in a window of `width`.

    The page lies in a frame, since windows of a browser without a screen are 500 wide at least.
    """
    page = html.escape(PAGE.read_text(encoding="utf-8"), quote=True)
    file = tmp_path / "asks.html"
    file.write_text(
        f"""<!doctype html><meta charset="utf-8"><body style="margin:0">
        <iframe style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>
        <pre></pre><script>
        const frame = document.querySelector("iframe");
        frame.onload = () => {{
          const page = frame.contentDocument;
          const found = ((page) => {{ {expression} }})(page);
          document.body.replaceChildren(document.querySelector("pre"));
          document.querySelector("pre").textContent = JSON.stringify(found);
        }};
        </script>""",
        encoding="utf-8",
    )
    dom = browse(tmp_path, "--virtual-time-budget=5000", "--dump-dom", file.as_uri())
    (told,) = re.findall(r"<pre>(.*)</pre>", dom, re.DOTALL)
    return json.loads(html.unescape(told))


def browse(tmp_path: Path, *words: str) -> str:
    assert BROWSER is not None
    given = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile")
    done = subprocess.run(
        [BROWSER, *given, *words], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_is_as_wide_as_the_window_and_its_tables_scroll(tmp_path, width):
    found = asked(
        tmp_path,
        """
        const whole = page.documentElement;
        const tables = [...page.querySelectorAll(".scroll")].filter((one) => one.offsetParent);
        return {
          wide: whole.scrollWidth - whole.clientWidth,
          client: whole.clientWidth,
          out: tables.filter(
            (one) => one.getBoundingClientRect().right > whole.clientWidth + 1).length,
          small: [...page.querySelectorAll("td, th, p, li")].filter((one) =>
            one.offsetParent && parseFloat(getComputedStyle(one).fontSize) < 12).length,
          tables: tables.length,
        };
        """,
        width,
    )
    assert 0 < found["client"] <= width
    assert (found["wide"], found["out"], found["small"]) == (0, 0, 0)
    assert found["tables"] > 20


def test_a_heading_sorts_down_then_up_then_as_printed(tmp_path):
    found = asked(
        tmp_path,
        """
        const table = page.querySelector("#dycoke-table1 table.figures");
        const heads = [...table.querySelectorAll("thead th")];
        const place = heads.findIndex((one) => one.textContent.trim() === "VideoMME");
        const seen = () => [
          heads[place].getAttribute("aria-sort"),
          [...table.tBodies[0].rows].map((row) => row.cells[0].textContent),
        ];
        const found = [seen()];
        for (let turn = 0; turn < 3; turn += 1) {
          heads[place].querySelector("button").click();
          found.push(seen());
        }
        return found;
        """,
    )
    printed, down, up, again = found
    assert printed[0] is None
    assert printed[1][0] == "Full 0.5B"
    assert (down[0], down[1][0], down[1][-1]) == (
        "descending",
        "DyCoke 72B K=0.5",
        "PruMerge 0.5B",
    )
    assert (up[0], up[1][0], up[1][-1]) == ("ascending", "PruMerge 0.5B", "DyCoke 72B K=0.5")
    assert again == printed


def test_times_are_sorted_by_how_long_they_are_and_gaps_come_last(tmp_path):
    rows = asked(
        tmp_path,
        """
        const table = page.querySelector("#dycoke-table3 table.figures");
        table.querySelectorAll("thead button")[1].click();
        return [...table.tBodies[0].rows].map((row) => row.cells[1].textContent.split(" ")[0]);
        """,
    )
    assert rows[0] == "3:48:59"
    assert rows[-2].startswith("31:45")
    assert rows[-1].startswith("-")


def test_print_unfolds_what_is_folded_and_folds_it_again(tmp_path):
    found = asked(
        tmp_path,
        """
        const shut = () => page.querySelectorAll("details:not([open])").length;
        const found = [shut()];
        page.defaultView.dispatchEvent(new Event("beforeprint"));
        found.push(shut());
        page.defaultView.dispatchEvent(new Event("afterprint"));
        found.push(shut());
        return found;
        """,
    )
    assert found[0] > 10
    assert found[1:] == [0, found[0]]


def test_it_prints(tmp_path):
    paper = tmp_path / "page.pdf"
    browse(tmp_path, f"--print-to-pdf={paper}", PAGE.as_uri())
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.stat().st_size > 50_000
