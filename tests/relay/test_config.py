from pathlib import Path

import pytest

from relay.config import RelayConfig
from relay.errors import BadConfig

LOG = "http://127.0.0.1:8083"
FILE = Path("file.pem")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_clear_http_is_for_loopback(host):
    RelayConfig(host, 8081, ("http://localhost:8084", "http://[::1]:8085"), LOG)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "relay.example", ""])
def test_beyond_loopback_a_relay_needs_a_certificate(host):
    with pytest.raises(BadConfig, match="certificate"):
        RelayConfig(host, 8081, (), LOG)
    RelayConfig(host, 8081, (), LOG, certificate=FILE, private_key=FILE)


@pytest.mark.parametrize("half", [{"certificate": FILE}, {"private_key": FILE}])
def test_half_a_certificate_is_refused(half):
    with pytest.raises(BadConfig, match="come together"):
        RelayConfig("127.0.0.1", 8081, (), LOG, **half)


@pytest.mark.parametrize(
    "url", ["http://worker.example", "http://192.0.2.1:80", "http://127.0.0.1.nip.example"]
)
def test_workers_and_log_beyond_loopback_are_reached_by_https(url):
    with pytest.raises(BadConfig, match="https"):
        RelayConfig("127.0.0.1", 8081, (url,), LOG)
    with pytest.raises(BadConfig, match="https"):
        RelayConfig("127.0.0.1", 8081, (), url)
    RelayConfig("127.0.0.1", 8081, (url.replace("http:", "https:"),), LOG)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "worker",
        "ftp://worker",
        "https://",
        "https://w/",
        "https://u:p@w",
        "https://w?q",
        "https://w#f",
    ],
)
def test_what_is_no_base_url_is_refused(url):
    with pytest.raises(BadConfig):
        RelayConfig("127.0.0.1", 8081, (url,), LOG)
