"""Writes the picture of the demo, `docs/images/demo.webp`: `python docs/demo_picture.py`.

Starts `tokenprune demo`, asks its first clip's question in Chromium, and keeps what is to be seen.
Needs the extra [demo], Playwright and a Chromium of the system.
"""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).resolve().parent / "images" / "demo.webp"
WIDE, HIGH = 1280, 1600  # the whole page is seen at once


def seen(address: str) -> bytes:
    """The page at `address` after its first question was answered, as a PNG."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = running.new_page(viewport={"width": WIDE, "height": HIGH}, color_scheme="light")
        page.goto(address)
        page.get_by_role("button", name="Ask").click()
        page.wait_for_selector(".tp-system:nth-child(4) .tp-answer")
        page.wait_for_timeout(500)
        box = page.locator(".tp-demo").bounding_box()
        assert box is not None
        high = min(HIGH, box["y"] + box["height"] + 16)
        picture = page.screenshot(clip={"x": 0, "y": 0, "width": WIDE, "height": high})
        running.close()
    return picture


def main() -> None:
    """Ends the demo, whatever happens."""
    command = [sys.executable, "-m", "tokenprune", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        try:
            address = re.search(r"http://\S+", demo.stdout.readline())
            assert address is not None, "the demo did not start"
            picture = Image.open(io.BytesIO(seen(address[0])))
        finally:
            demo.send_signal(signal.SIGTERM)
    # not of a palette: small shapes would lose their colour, which is what is asked about
    picture.convert("RGB").save(PICTURE, quality=90, method=6)
    print(f"wrote {PICTURE.name}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
