"""A session whose relay and issuer are a simulated world."""

import pytest
from serving import serving
from simulator import ACCOUNT_KEY, World

from sottovoce.sdk.profile import load_profile
from sottovoce.sdk.session import Session


@pytest.fixture
def world():
    return World()


@pytest.fixture
def profile(world, tmp_path):
    """A `client.toml` and what it names."""
    (tmp_path / "trust.toml").write_text(world.trust_text())
    (tmp_path / "account.key").write_text(ACCOUNT_KEY + "\n")
    with serving(world.app()) as url:
        file = tmp_path / "client.toml"
        file.write_text(
            f'trust = "trust.toml"\nrelay = "{url}"\nissuer = "{url}"\n'
            'account-key = "account.key"\nstate = "state"\n'
            'accept = ["simulated", "compute-unverified"]\n'
        )
        yield file


@pytest.fixture
def session(profile):
    with Session(load_profile(profile)) as session:
        yield session
