"""Tests that build and boot a machine take many minutes: `pytest -m image tests/deploy/image`."""

import pytest

MARKER = "image: builds the measured image and boots it under QEMU; `-m image` runs these"


def pytest_configure(config):
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Leave those out unless they are asked for by their marker."""
    if "image" in (config.getoption("-m") or ""):
        return
    heavy = [item for item in items if item.get_closest_marker("image")]
    config.hook.pytest_deselected(items=heavy)
    items[:] = [item for item in items if item not in heavy]
