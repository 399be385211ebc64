"""A page that rebinds its own name to this machine gets nothing from the proxy."""

import socket
from urllib.parse import urlsplit

import httpx
import pytest
from serving import serving
from simulator import ACCOUNT_KEY, World

from attestation.verifier.policy import ClientPolicy
from client.connection import CallerConnection
from client.hosts import answers_to
from client.proxy import ProxyConfig, build_app
from client.remedies import REMEDIES

OWN = [
    ("127.0.0.1:8080", "127.0.0.1"),
    ("127.0.0.1", "127.0.0.1"),
    ("127.8.8.8:8080", "127.0.0.1"),
    ("localhost:8080", "127.0.0.1"),
    ("LocalHost", "127.0.0.1"),
    ("[::1]:8080", "127.0.0.1"),
    ("[0:0:0:0:0:0:0:1]", "::1"),
    ("192.0.2.7:8080", "192.0.2.7"),
    ("192.0.2.7:8080", "0.0.0.0"),
    ("[2001:db8::1]:8080", "::"),
    ("Proxy.lan:8080", "proxy.LAN"),
]

OF_OTHERS = [
    ("", "127.0.0.1"),
    ("evil.example", "127.0.0.1"),
    ("evil.example:8080", "0.0.0.0"),
    ("127.0.0.1.evil.example:8080", "127.0.0.1"),
    ("localhost.evil.example", "127.0.0.1"),
    ("evil.example:8080@127.0.0.1", "127.0.0.1"),
    ("127.0.0.1, evil.example", "127.0.0.1"),
    ("127.0.0.1:evil.example", "127.0.0.1"),
    ("[127.0.0.1", "127.0.0.1"),
    ("localhost ", "127.0.0.1"),
    ("localhost\n", "127.0.0.1"),
    ("0.0.0.0:8080", "127.0.0.1"),
    ("192.0.2.7:8080", "127.0.0.1"),
    ("192.0.2.7:8080", "192.0.2.8"),
    ("2130706433", "127.0.0.1"),
]


@pytest.mark.parametrize(("field", "listens_on"), OWN)
def test_the_proxy_answers_to_its_own_names(field, listens_on):
    assert answers_to(field, listens_on)


@pytest.mark.parametrize(("field", "listens_on"), OF_OTHERS)
def test_and_to_no_other(field, listens_on):
    assert not answers_to(field, listens_on)


@pytest.fixture
def proxy(tmp_path):
    with serving(World().app()) as url:
        policy = ClientPolicy(frozenset({"simulated", "compute-unverified"}))
        config = ProxyConfig(World().trust(), policy, url, url, ACCOUNT_KEY, tmp_path)
        with serving(build_app(config), http=CallerConnection) as proxy_url:
            yield proxy_url


PATHS = ["/", "/page.js", "/metrics", "/health", "/verification", "/v1/models", "/no/such/path"]


def test_every_path_is_refused_under_another_name(proxy):
    for path in PATHS:
        answer = httpx.get(proxy + path, headers={"host": "evil.example:8080"}, trust_env=False)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (421, "host_refused"), path
        assert error["message"].endswith(f". {REMEDIES['host_refused']}.")
        assert answer.headers["x-request-id"].startswith("req_")
        assert "evil" not in answer.text


def test_a_completion_is_refused_before_its_body_is_read(proxy):
    url, headers = f"{proxy}/v1/chat/completions", {"host": "evil.example"}
    answer = httpx.post(url, headers=headers, content=b"no JSON", trust_env=False)
    assert answer.json()["error"]["code"] == "host_refused"


def test_under_its_own_names_the_page_is_there(proxy):
    port = urlsplit(proxy).port
    for name in ("127.0.0.1", "localhost", "[::1]"):
        answer = httpx.get(f"{proxy}/", headers={"host": f"{name}:{port}"}, trust_env=False)
        assert answer.status_code == 200, name


def test_a_request_without_a_host_is_refused(proxy):
    with socket.create_connection(("127.0.0.1", urlsplit(proxy).port)) as connection:
        connection.sendall(b"GET /verification HTTP/1.0\r\n\r\n")
        assert b" 421 " in connection.recv(4096).split(b"\r\n")[0]
