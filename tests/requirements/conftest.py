"""What an attack measured is said, not only judged."""

import sys

import pytest


@pytest.fixture
def report(capsys, record_property):
    """A function that prints a line, and leaves it as a property of the test's result."""

    def say(line):
        record_property("measured", line)
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return say
