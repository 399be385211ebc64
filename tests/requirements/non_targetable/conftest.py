"""The client's parts around a simulated world."""

from tests.client.conftest import run, world

__all__ = ["run", "world"]
