"""`sottovoce issuer`: keys that follow each other, two live at most."""

import time

import pytest
from typer.testing import CliRunner

from issuer.keys import IssuerKey, KeyRing
from sottovoce.commands.issuer import DAY_S, app, next_period
from wire.token_life import EXCHANGE_S, KeyPeriod

NOW = 1_800_000_000


class Ring:
    """What `next_period` asks of a ring: the keys' periods, the latest first."""

    def __init__(self, *periods):
        self.keys = [type("Key", (), {"period": period}) for period in periods]


def days(start, end):
    return KeyPeriod(NOW + start * DAY_S, NOW + end * DAY_S)


@pytest.mark.parametrize(
    ("periods", "begin"),
    [
        ([days(0, 90)], NOW + 45 * DAY_S),
        ([days(-60, 30)], NOW + DAY_S),  # late: half is over, so as soon as it can be published
        ([days(45, 135), days(0, 90)], NOW + 90 * DAY_S + EXCHANGE_S),
    ],
)
def test_the_next_key_begins_in_time_and_is_never_a_third(periods, begin):
    period = next_period(Ring(*periods), now=NOW, days=90, lead_s=DAY_S)
    assert period == KeyPeriod(begin, begin + 90 * DAY_S)


def test_rotating_again_and_again_makes_files_that_an_issuer_takes(tmp_path):
    files = [tmp_path / f"issuer-{number}.pem" for number in range(4)]
    runner = CliRunner()
    assert runner.invoke(app, ["create-key", str(files[0])]).exit_code == 0
    for number, file in enumerate(files[1:], start=1):
        current = [word for old in files[:number] for word in ("--current", str(old))]
        result = runner.invoke(app, ["rotate", str(file), *current])
        assert result.exit_code == 0, result.output
        assert "publish issuer-key" in result.output
        assert file.stat().st_mode & 0o777 == 0o600
    ring = KeyRing.from_files(files)
    with IssuerKey.from_file(files[0]) as first:
        assert first.period.signs(time.time())
    assert not ring.keys[0].period.signs(time.time())
    ring.close()


def test_a_key_file_is_never_overwritten(tmp_path):
    file = tmp_path / "issuer.pem"
    CliRunner().invoke(app, ["create-key", str(file)])
    before = file.read_bytes()
    result = CliRunner().invoke(app, ["rotate", str(file), "--current", str(file)])
    assert result.exit_code != 0
    assert file.read_bytes() == before
