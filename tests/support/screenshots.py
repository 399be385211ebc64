"""Takes the pictures of the page that the documents show: `python tests/support/screenshots.py`.

Starts every party on this machine, asks the model in the box two questions in a real Chromium, and
writes docs/images/. Needs Playwright and a Chromium, as the page's tests do.
"""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from chromium import browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PORT_BASE = 8980
QUESTIONS = ("Who can read my prompt?", "What does the relay see?")
LARGEST = 150_000
"""Bytes of a picture: they are part of the source."""

VIEWS = {
    "page-light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 820}},
    "page-dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 820}},
    "page-narrow": {"color_scheme": "light", "viewport": {"width": 400, "height": 820}},
}


@contextlib.contextmanager
def everything():
    """Yield the URL of a proxy with every party behind it."""
    command = [sys.executable, "-m", "sottovoce", "up", "--port-base", str(PORT_BASE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as up:
        try:
            if not any("sottovoce is ready" in line for line in up.stdout):
                sys.exit("the parties did not get ready")
            yield f"http://127.0.0.1:{PORT_BASE}/"
        finally:
            up.send_signal(signal.SIGINT)


def take(page, name):
    """Ask, and take one picture."""
    page.wait_for_selector("#model option", state="attached")
    for asked, question in enumerate(QUESTIONS):
        page.fill("#prompt", question)
        page.press("#prompt", "Enter")
        page.locator(".mark:not(.waiting)").nth(asked).wait_for()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    target = IMAGES / f"{name}.png"
    page.screenshot(path=target, animations="disabled")
    if target.stat().st_size > LARGEST:
        sys.exit(f"{target} is larger than {LARGEST} bytes")
    sys.stdout.write(f"{target}\n")


def main():
    IMAGES.mkdir(exist_ok=True)
    with everything() as url, browser() as chromium:
        for name, view in VIEWS.items():
            context = chromium.new_context(**view)
            page = context.new_page()
            page.goto(url)
            take(page, name)
            context.close()


if __name__ == "__main__":
    main()
