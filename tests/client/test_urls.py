import pytest

from client.errors import InsecureUrl
from client.urls import require_private_link


@pytest.mark.parametrize(
    "url",
    ["https://relay.example", "http://127.0.0.1:8081", "http://localhost:1", "http://[::1]:2"],
)
def test_https_and_loopback_are_taken(url):
    require_private_link(url)


@pytest.mark.parametrize(
    "url",
    ["http://relay.example", "http://10.0.0.1", "http://localhost.example", "ftp://x", "relay", ""],
)
def test_clear_http_beyond_this_machine_is_refused(url):
    with pytest.raises(InsecureUrl):
        require_private_link(url)
