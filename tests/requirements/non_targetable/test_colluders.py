"""Real parties, and what crossed between them and what they wrote, read as colluders would.

Two users with an account and a proxy each ask in turn. An address is told by the tap that a user's
bytes went through. By design relay and host of a node link address and node, and issuer and relay
link account, address, times and nodes; nobody but the client has the content.
"""

import contextlib
import itertools
import socket
import sqlite3

import httpx
import pytest
from tap import Tap

from issuer.accounts import add_account
from sottovoce.local import ISSUER, LOG, WORKER
from tests.path.test_shape import messages

pytestmark = pytest.mark.xdist_group("stack")

USERS = ("xylophone-quartz-7341", "bassoon-granite-2209")
"""Each is what that user's prompts contain, too."""
ROUNDS = 3
WINDOW = 12


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class User:
    """One account, one proxy, and taps on its way to issuer and relay."""

    def __init__(self, stack, name, relay_port):
        local, self.name = stack.local, name
        self.at_issuer, self.at_relay = Tap(local.port(ISSUER)), Tap(relay_port)
        self.account = add_account(local.database("issuer"), 10_000)
        folder = local.directory(f"colluders-{name}")
        key = folder / "account"
        key.write_text(self.account)
        port = free_port()
        stack.supervisor.start(
            f"proxy-of-{name}", "proxy",
            "--trust", str(local.trust), "--relay", self.at_relay.url,
            "--issuer", self.at_issuer.url, "--account-key", str(key), "--state", str(folder),
            "--accept", "simulated", "--accept", "compute-unverified", "--port", str(port),
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{port}"

    def serves(self):
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        return False

    def ask(self):
        request = {
            "model": "tinychat",
            "max_tokens": 4,
            "messages": [{"role": "user", "content": f"Hello from {self.name}"}],
        }
        answer = httpx.post(
            f"{self.url}/v1/chat/completions", json=request, timeout=90, trust_env=False
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["attestation"]["node"]


class Watched:
    """All that was seen of both users' requests."""

    def __init__(self, stack):
        self.local = stack.local
        self.at_workers = [Tap(self.local.port(WORKER + index)) for index in range(2)]
        relay_port = free_port()
        stack.supervisor.start(
            "colluding-relay", "relay",
            *(word for tap in self.at_workers for word in ("--worker", tap.url)),
            "--log", self.local.url(LOG), "--port", str(relay_port),
        )  # fmt: skip
        self.users = [User(stack, name, relay_port) for name in USERS]
        stack.until(lambda: all(user.serves() for user in self.users))
        self._earlier = set(self._spent())
        self.nodes = [[user.ask() for user in self.users] for _ in range(ROUNDS)]

    def _spent(self):
        return rows(self.local.database("spent"), "SELECT row, key_id, claim, arrival FROM spent")

    def spent(self):
        """What the store wrote down of them."""
        return [row for row in self._spent() if row not in self._earlier]

    def by_relay(self, user):
        """(node asked for, ciphertext) of a user's requests."""
        return [
            (head.split(b" ")[1][1:].decode(), body)
            for head, body in posts(user.at_relay)
            if head.startswith(b"POST")
        ]

    def by_hosts(self):
        """The ciphertexts that reached any worker's host."""
        return [body for tap in self.at_workers for head, body in posts(tap) if b"/gateway" in head]


def posts(tap):
    for came, _ in tap.connections:
        yield from messages(b"".join(came))


def windows(data):
    return {data[at : at + WINDOW] for at in range(len(data) - WINDOW + 1)}


@pytest.fixture(scope="module")
def watched(stack):
    return Watched(stack)


def test_relay_and_hosts_link_addresses_to_nodes_by_design(watched, report):
    arrived = watched.by_hosts()
    linked = [sum(body in arrived for _, body in watched.by_relay(user)) for user in watched.users]
    report(f"relay + hosts, real parties: {sum(linked)} of {2 * ROUNDS} linked (by design)")
    assert linked == [ROUNDS, ROUNDS]
    for user, nodes in zip(watched.users, zip(*watched.nodes, strict=True), strict=True):
        assert [node for node, _ in watched.by_relay(user)] == list(nodes)


def test_issuer_and_relay_link_an_account_to_nodes_and_not_to_content(watched, report):
    """By the address, which both see: this user's bytes."""
    for user in watched.users:
        seen = user.at_issuer.bytes + user.at_relay.bytes
        assert b"Bearer " + user.account.encode() in seen
        assert [node for node, _ in watched.by_relay(user)]
        assert user.name.encode() not in seen
    report(f"issuer + relay, real parties: {2 * ROUNDS} of {2 * ROUNDS} by address (by design)")


def test_issuer_and_hosts_have_nothing_in_common(watched, report):
    """What an account drew, against what reached workers: no bytes that only those two share."""
    drawn = [
        windows(b"".join(body for _, body in posts(user.at_issuer)))
        | windows(b"".join(user.at_issuer.responses))
        for user in watched.users
    ]
    assert all(drawn)
    own = [drawn[0] - drawn[1], drawn[1] - drawn[0]]
    links = [len(each & windows(body)) for each, body in itertools.product(own, watched.by_hosts())]
    report(f"issuer + hosts, real parties: {sum(links)} of {len(links)} pairs share bytes")
    assert not any(links)


def test_the_search_finds_what_two_sides_share(watched):
    """It would prove nothing, did it not find what relay and hosts share."""
    [first, *_] = watched.by_hosts()
    shared = [
        bool(windows(first) & windows(body))
        for user in watched.users
        for _, body in watched.by_relay(user)
    ]
    assert shared.count(True) == 1


def rows(url, query):
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        return database.execute(query).fetchall()


def test_what_issuer_and_store_keep_joins_nowhere(watched):
    """Accounts without times, tokens without accounts, arrivals to the minute."""
    spent = watched.spent()
    accounts = rows(watched.local.database("issuer"), "SELECT * FROM accounts")
    assert len(spent) >= 2 * ROUNDS
    assert len(accounts) >= 2
    assert all(arrival % 60 == 0 for *_, arrival in spent)
    assert len({key_id for _, key_id, _, _ in spent}) == 1
    values = {value for row in spent for value in row[:3]}
    assert not values & {value for row in accounts for value in row}
