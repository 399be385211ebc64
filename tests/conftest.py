"""What holds for every test."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep the tests of a file on one runner, so that what they share is started once.

    A file that names a group shares it with other files: all of `stack` use one running system.
    That group takes longest, and waits more than it computes: it comes first.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group").args != ("stack",))


def pytest_make_parametrize_id(val, argname):
    """Name long values by their argument: names must agree, and each runner makes its own."""
    return argname if isinstance(val, bytes | str) and len(val) > 64 else None


@pytest.fixture(scope="session")
def stack():
    """Every party as a real process, started once for all tests that mark themselves `stack`."""
    from path_stack import Stack  # noqa: PLC0415 - most runs of a few tests need nothing of it

    running = Stack()
    try:
        running.up.start()
        yield running
    finally:
        running.up.stop()
