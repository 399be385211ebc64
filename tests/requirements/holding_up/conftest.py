"""A system of its own for a soak: what it breaks, others do not share."""

from pathlib import Path

import pytest

from tests.issuer.conftest import _postgres_programs, postgres
from tests.requirements.holding_up.soak import SoakStack

__all__ = ["postgres"]


@pytest.fixture(scope="module")
def database(request):
    """PostgreSQL, or None where it is not installed: SQLite keeps the books then."""
    return request.getfixturevalue("postgres") if _postgres_programs() else None


@pytest.fixture(scope="module")
def soaked(database):
    """Every party, started once for the soaks of this folder."""
    running = SoakStack(database)
    try:
        running.up.start()
        yield running
    finally:
        running.up.stop()
        assert not Path(running.local.folder).exists()
