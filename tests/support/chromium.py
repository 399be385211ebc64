"""A real headless Chromium, the system's own, through Playwright; or why there is none."""

import contextlib
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def program():
    """The path of the browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def browser():
    """Yield a browser; skips, visibly, where Playwright or the browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if (path := program()) is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        # Its own sandbox needs privileges that a container has not; every page here is ours.
        found = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()
