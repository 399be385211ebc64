"""Real workers, as the tests of the server have them."""

from tests.server.conftest import new_neighbours, start_worker

__all__ = ["new_neighbours", "start_worker"]
