"""The log and three witnesses over loopback: batches, quorums, lists, and what is refused."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvicorn

from transparency import app, witness
from transparency.admission import Admitted
from transparency.app import LogConfig
from transparency.cosigning import WitnessAddress
from transparency.epochs import EpochNotes
from transparency.errors import (
    AdmissionRefused,
    LeafRefused,
    LogUnavailable,
    StaleEpoch,
    WrongRole,
)
from transparency.leaf import (
    IssuerKeyLeaf,
    KeyRotationLeaf,
    Leaf,
    LeafType,
    ModelLeaf,
    NodeLeaf,
    NodeListLeaf,
    ReleaseLeaf,
    Role,
    WithdrawalLeaf,
    sign_leaf,
)
from transparency.nodes_document import NodesDocument
from transparency.proof import LogProof, verify_proof
from transparency.publish import add_leaf, show_alive
from transparency.tile_tree import consistency_from_tiles
from transparency.tiles import decode_entries
from transparency.witness import WitnessConfig
from wire import cbor
from wire.merkle import leaf_hash

NODE_LIFE_S = 7200
CLIENT = httpx.Client(trust_env=False, timeout=10)


class Server:
    """An ASGI application on a loopback port, in a thread of its own."""

    def __init__(self, application, port=0):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(application, log_level="warning", lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()

    def wait_until_started(self):
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)

    def begin_to_stop(self):
        self._server.should_exit = True

    def stop(self):
        self.begin_to_stop()
        self._thread.join()
        self._socket.close()


class Clock:
    """Unix time as the test wants it."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


class Fleet:
    """Three witnesses and a log on loopback, and a client's view of them."""

    def __init__(self, world, directory, clock, monkeypatch):
        monkeypatch.setattr("transparency.files.os.fsync", lambda _: None)
        monkeypatch.setattr("transparency.service.POLL_S", 0.05)
        monkeypatch.setattr("transparency.service.BATCH_S", 0.02)
        self.world, self.directory, self.clock = world, directory, clock
        self.refuse = set()
        self.list_seeds = ["list"]
        self.admit_by = lambda _: None
        self.witnesses = [None] * 3
        self.ports = [0] * 3
        for index in range(3):
            self.start_witness(index)
        for server in self.witnesses:
            server.wait_until_started()
        self.log = None

    def seed_file(self, name):
        path = self.directory / f"seed-{name}"
        path.write_text(self.world.seed(name).hex() + "\n")
        path.chmod(0o600)
        return path

    def start_witness(self, index):
        config = WitnessConfig(
            f"witness.example/w{index}",
            self.world.policy.log_vkey,
            self.seed_file(f"witness {index}"),
            self.directory / f"state{index}",
        )
        application = witness.build_app(config, clock=self.clock)
        self.witnesses[index] = Server(application, self.ports[index])
        self.ports[index] = self.witnesses[index].port

    def stop_witness(self, index):
        self.witnesses[index].stop()
        self.witnesses[index] = None

    def config(self, min_nodes=1):
        vkeys = self.world.policy.witness_vkeys
        return LogConfig(
            directory=self.directory / "log",
            origin=self.world.log.name,
            seed_file=self.seed_file("log"),
            list_seed_files=tuple(map(self.seed_file, self.list_seeds)),
            roles=self.world.roles,
            witnesses=tuple(
                WitnessAddress(f"http://127.0.0.1:{port}", vkey)
                for port, vkey in zip(self.ports, vkeys, strict=True)
            ),
            quorum=2,
            admit=self.admit,
            epoch_seconds=self.world.epoch_seconds,
            min_nodes=min_nodes,
        )

    def start_log(self, **changes):
        self.log = Server(app.build_app(self.config(**changes), clock=self.clock))
        self.log.wait_until_started()
        return self.log.url

    def stop_log(self):
        self.log.stop()
        self.log = None

    def close(self):
        servers = [server for server in (self.log, *self.witnesses) if server is not None]
        for server in servers:
            server.begin_to_stop()
        for server in servers:
            server.stop()

    def admit(self, bundle, at, statements):
        """A stand-in for the evidence verifier: the bundle says what the node is."""
        self.admit_by(statements)
        name, model, capacity, not_after = bundle.decode().split("|")
        if name in self.refuse or at >= int(not_after):
            raise AdmissionRefused("the evidence is not accepted")
        return Admitted(
            self.world.seed(name),
            self.world.public(f"receipt {name}"),
            model,
            int(capacity),
            int(not_after),
        )

    def node(self, name, model="tinychat", capacity=1, not_after=None):
        not_after = int(self.clock()) + NODE_LIFE_S if not_after is None else not_after
        bundle = f"{name}|{model}|{capacity}|{not_after}".encode()
        body = NodeLeaf(self.world.seed(name), hashlib.sha256(bundle).digest(), not_after)
        return sign_leaf(body, self.world.key(f"receipt {name}")), bundle

    def add_node(self, name, **changes):
        return add_leaf(self.log.url, *self.node(name, **changes))

    def sign_of_life(self, name, until=None, signer=None, **changes):
        _, bundle = self.node(name, **changes)
        until = int(self.clock()) + self.world.epoch_seconds if until is None else until
        body = NodeLeaf(self.world.seed(name), hashlib.sha256(bundle).digest(), until)
        return sign_leaf(body, self.world.key(signer or f"receipt {name}"))

    def release(self, version="0.1.0"):
        body = ReleaseLeaf(version, {"simulated": self.world.seed(version)})
        return sign_leaf(body, self.world.key("release"))

    def get(self, path):
        return CLIENT.get(self.log.url + path)

    def document(self):
        """The nodes document, as soon as the log has one for this epoch."""
        for _ in range(200):
            response = self.get("/nodes")
            if response.status_code == 200:
                return response
            assert response.status_code == 503
            time.sleep(0.02)
        raise AssertionError("no nodes document")

    def nodes(self, last=None):
        return self.world.verify(self.document().content, last, self.clock())

    def post(self, body):
        return CLIENT.post(self.log.url + "/add", content=body)


@pytest.fixture
def clock(world):
    return Clock(world.at)


@pytest.fixture
def fleet(world, tmp_path, clock, monkeypatch):
    fleet = Fleet(world, tmp_path, clock, monkeypatch)
    with contextlib.closing(fleet):
        yield fleet


def test_an_added_leaf_comes_back_with_a_proof_that_a_client_accepts(world, fleet):
    url = fleet.start_log()
    leaf = fleet.release()
    added = add_leaf(url, leaf)
    assert added.index == 0
    proof = LogProof.parse(added.proof)
    checkpoint = verify_proof(proof, leaf.encode(), policy=world.policy, at=world.at)
    assert checkpoint.size == 1
    note = fleet.get("/checkpoint")
    assert note.content == proof.checkpoint
    assert note.headers["content-type"] == "text/plain; charset=utf-8"
    assert fleet.get("/health").json() == {"status": "ok", "size": 1, "published": 1}


def test_a_leaf_added_twice_keeps_its_index(fleet):
    url = fleet.start_log()
    assert add_leaf(url, fleet.release("1")).index == 0
    assert add_leaf(url, fleet.release("2")).index == 1
    assert add_leaf(url, fleet.release("1")).index == 0
    fleet.stop_log()
    url = fleet.start_log()
    assert add_leaf(url, fleet.release("1")).index == 0
    assert fleet.get("/health").json()["size"] == 2


def test_leaves_added_at_once_share_a_checkpoint(world, fleet):
    url = fleet.start_log()
    leaves = [fleet.release(str(i)) for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        added = list(pool.map(lambda leaf: add_leaf(url, leaf), leaves))
    assert sorted(item.index for item in added) == list(range(12))
    for leaf, item in zip(leaves, added, strict=True):
        proof = LogProof.parse(item.proof)
        verify_proof(proof, leaf.encode(), policy=world.policy, at=world.at)
    assert len({item.proof.partition("\n\n")[2] for item in added}) < 12


def test_tiles_and_entries_are_served_as_far_as_published(world, fleet):
    url = fleet.start_log()
    assert fleet.get("/checkpoint").status_code == 404
    assert fleet.get("/tile/0/000.p/1").status_code == 404
    add_leaf(url, fleet.release("1"))
    old = world.policy.verify(fleet.get("/checkpoint").content, world.at)
    add_leaf(url, fleet.release("2"))
    new = world.policy.verify(fleet.get("/checkpoint").content, world.at)
    entries = fleet.get("/tile/entries/000.p/2")
    assert decode_entries(entries.content) == (
        fleet.release("1").encode(),
        fleet.release("2").encode(),
    )
    assert "immutable" in entries.headers["cache-control"]

    def fetch(path):
        response = fleet.get("/" + path)
        return response.content if response.status_code == 200 else None

    assert consistency_from_tiles((old.size, old.root), (new.size, new.root), fetch)
    for path in ("/tile/0/000", "/tile/0/000.p/3", "/tile/0/%2e%2e/000", "/tile/x", "/tile/0/"):
        assert fleet.get(path).status_code == 404


def test_a_node_with_evidence_is_listed_with_its_bundle(world, fleet):
    url = fleet.start_log(min_nodes=2)
    add_leaf(url, fleet.release())
    model = ModelLeaf("tinychat", world.seed("model"))
    add_leaf(url, sign_leaf(model, world.key("release")))
    key = IssuerKeyLeaf("issuer.example", b"spki", b"challenge", world.start, world.start + 86400)
    add_leaf(url, sign_leaf(key, world.key("issuer")))
    fleet.add_node("one", capacity=4)
    unlisted = fleet.get("/nodes")
    assert (unlisted.status_code, unlisted.headers["retry-after"]) == (503, "1")
    assert unlisted.json()["error"]["code"] == "unavailable"
    fleet.add_node("two", model="other")
    nodes = fleet.nodes()
    rows = {row.node: (row.model, row.capacity) for row in nodes.nodes}
    assert rows == {
        world.seed("one").hex(): ("tinychat", 4),
        world.seed("two").hex(): ("other", 1),
    }
    assert nodes.bundles[world.seed("one").hex()] == fleet.node("one", capacity=4)[1]
    assert [release.version for release in nodes.releases] == ["0.1.0"]
    assert nodes.models == (model,)
    assert nodes.issuer_keys == (key,)


def test_a_document_is_the_same_for_everyone_until_its_epoch_ends(world, fleet, clock):
    url = fleet.start_log()
    fleet.add_node("one")
    first = fleet.document()
    assert first.headers["cache-control"] == "max-age=10"
    add_leaf(url, fleet.release())
    fleet.add_node("two")
    assert fleet.document().content == first.content
    fleet.stop_log()
    fleet.start_log()
    assert fleet.document().content == first.content
    clock.now = world.start + world.epoch_seconds - 3.5
    assert fleet.document().headers["cache-control"] == "max-age=3"


def test_lists_follow_each_other_one_an_epoch(world, fleet, clock):
    fleet.start_log()
    fleet.add_node("one")
    seen, indexes = fleet.nodes().seen, []
    not_after = int(clock()) + NODE_LIFE_S
    for _ in range(3):
        clock.now += world.epoch_seconds
        show_alive(fleet.log.url, fleet.sign_of_life("one", not_after=not_after))
        document = fleet.document().content
        nodes = world.verify(document, seen, clock())
        seen = nodes.seen
        indexes.append(NodesDocument.decode(document).node_list.index)
    assert len(NodesDocument.decode(document).consistency) == 3
    assert len(set(indexes)) == 3
    entries = decode_entries(fleet.get(f"/tile/entries/000.p/{nodes.checkpoint.size}").content)
    kinds = [Leaf.decode(entry).type for entry in entries]
    assert kinds.count(LeafType.NODE_LIST) == 4
    assert kinds[-1] is LeafType.NODE_LIST


def test_a_dead_node_is_kept_listed_by_nobody_else(world, fleet, clock):
    url = fleet.start_log()
    leaf, bundle = fleet.node("dead")
    life = {"not_after": int(clock()) + NODE_LIFE_S}
    last_sign = fleet.sign_of_life("dead", **life)
    add_leaf(url, leaf, bundle)
    fleet.add_node("alive", **life)
    show_alive(url, last_sign)
    for _ in range(2):
        clock.now += world.epoch_seconds
        show_alive(url, fleet.sign_of_life("alive", **life))
        add_leaf(url, leaf, bundle)  # what everybody has: its leaf, its bundle, an old sign
        show_alive(url, last_sign)
        rows = {row.node for row in fleet.nodes().nodes}
    assert rows == {world.seed("alive").hex()}


def test_a_sign_of_life_is_the_nodes_own_and_of_its_time(world, fleet, clock):
    url = fleet.start_log()
    fleet.add_node("one")
    fleet.add_node("two")
    now, epoch = int(clock()), world.epoch_seconds
    refused = [
        ("admission_refused", fleet.sign_of_life("one", now + epoch + 61)),
        ("admission_refused", fleet.sign_of_life("stranger")),
        ("wrong_role", fleet.sign_of_life("one", signer="receipt two")),
        ("malformed", fleet.sign_of_life("one", not_after=now + 1)),
        ("malformed", fleet.release()),
    ]
    for reason, sign in refused:
        with pytest.raises(LeafRefused) as error:
            show_alive(url, sign)
        assert error.value.reason == reason
    show_alive(url, fleet.sign_of_life("one", now + epoch + 60))
    size = fleet.get("/health").json()["size"]
    assert size == 3  # two nodes and their list: signs are not logged


def test_a_sign_of_life_is_no_leaf(fleet):
    url = fleet.start_log()
    fleet.add_node("one")
    with pytest.raises(LeafRefused) as error:
        add_leaf(url, fleet.sign_of_life("one"), fleet.node("one")[1])
    assert error.value.reason == "admission_refused"


def test_the_next_list_is_published_a_little_ahead(world, fleet, clock):
    fleet.start_log()
    fleet.add_node("one")
    before = fleet.document().content
    clock.now = world.start + world.epoch_seconds - 20
    size = fleet.get("/health").json()["size"]
    while fleet.get("/health").json()["published"] == size:
        time.sleep(0.02)
    assert fleet.document().content == before
    clock.now = world.start + world.epoch_seconds
    response = fleet.get("/nodes")
    assert response.status_code == 200
    with pytest.raises(StaleEpoch):
        world.verify(before, at=clock.now)
    assert world.verify(response.content, at=clock.now).epoch == world.epoch + 1


def test_a_node_that_runs_out_within_the_epoch_is_left_out(world, fleet):
    fleet.start_log(min_nodes=1)
    end = world.start + world.epoch_seconds
    fleet.add_node("short", not_after=end - 1)
    time.sleep(0.2)
    assert fleet.get("/nodes").status_code == 503
    fleet.add_node("long", not_after=end)
    assert [row.node for row in fleet.nodes().nodes] == [world.seed("long").hex()]


def test_after_a_restart_evidence_is_appraised_again(world, fleet, clock):
    fleet.start_log()
    fleet.add_node("one")
    fleet.add_node("two")
    fleet.nodes()
    fleet.stop_log()
    fleet.refuse = {"two"}
    clock.now += world.epoch_seconds
    fleet.start_log()
    assert [row.node for row in fleet.nodes().nodes] == [world.seed("one").hex()]


def test_one_witness_down_is_no_matter(world, fleet):
    url = fleet.start_log()
    fleet.stop_witness(1)
    added = add_leaf(url, fleet.release())
    note = LogProof.parse(added.proof).checkpoint
    assert world.policy.verify(note, world.at).size == 1
    assert b"witness.example/w1" not in note


def test_two_witnesses_down_keep_the_leaf_and_nothing_is_published(world, fleet):
    url = fleet.start_log()
    add_leaf(url, fleet.release("1"))
    note = fleet.get("/checkpoint").content
    fleet.stop_witness(0)
    fleet.stop_witness(1)
    response = fleet.post(cbor.encode({"leaf": fleet.release("2").encode(), "attachment": b""}))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"]["code"] == "unavailable"
    with pytest.raises(LogUnavailable):
        add_leaf(url, fleet.release("3"))
    assert fleet.get("/checkpoint").content == note
    assert add_leaf(url, fleet.release("1")).index == 0
    fleet.start_witness(0)
    fleet.witnesses[0].wait_until_started()
    assert add_leaf(url, fleet.release("2")).index == 1
    assert add_leaf(url, fleet.release("3")).index == 2
    checkpoint = world.policy.verify(fleet.get("/checkpoint").content, world.at)
    assert checkpoint.size == fleet.get("/health").json()["size"] == 3


def test_a_restart_without_witnesses_continues_the_same_tree(world, fleet):
    url = fleet.start_log()
    fleet.stop_witness(0)
    fleet.stop_witness(1)
    with pytest.raises(LogUnavailable):
        add_leaf(url, fleet.release("1"))
    fleet.stop_log()
    fleet.start_witness(0)
    fleet.witnesses[0].wait_until_started()
    url = fleet.start_log()
    assert add_leaf(url, fleet.release("2")).index == 1
    assert add_leaf(url, fleet.release("1")).index == 0
    assert world.policy.verify(fleet.get("/checkpoint").content, world.at).size == 2


SERVE = """
import sys
from pathlib import Path
from transparency.app import LogConfig, serve
from transparency.cosigning import WitnessAddress
from transparency.leaf import RoleKeys

def admit(bundle, at, statements):
    raise ValueError("no nodes here")

folder, origin, port, roles, *witnesses = sys.argv[1:]
keys = [bytes.fromhex(roles[i : i + 64]) for i in (0, 64, 128)]
serve(
    LogConfig(
        directory=Path(folder, "log"),
        origin=origin,
        seed_file=Path(folder, "seed-log"),
        list_seed_files=(Path(folder, "seed-list"),),
        roles=RoleKeys(*keys),
        witnesses=tuple(WitnessAddress(*text.split(" ")) for text in witnesses),
        quorum=2,
        admit=admit,
        port=int(port),
    )
)
"""


def start_process(fleet, port):
    """Start the log as its operator does: `serve`, in a process of its own."""
    config = fleet.config()
    roles = (config.roles.release + config.roles.issuer + config.roles.list).hex()
    witnesses = [f"{address.url} {address.vkey}" for address in config.witnesses]
    folder = str(fleet.directory)
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, folder, config.origin, str(port), roles, *witnesses],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )


def wait_for_health(process, url):
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            return CLIENT.get(url + "/health").json()
        time.sleep(0.05)
    raise AssertionError("the log did not start")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_killed_service_keeps_what_it_acknowledged_and_ends_cleanly_when_asked(
    world, fleet, clock
):
    clock.now = time.time()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start_process(fleet, port)
    try:
        assert wait_for_health(process, url)["size"] == 0
        first = add_leaf(url, fleet.release("1"))
        with ThreadPoolExecutor(4) as pool:
            adding = [pool.submit(add_leaf, url, fleet.release(str(i))) for i in range(2, 6)]
            time.sleep(0.15)
            process.kill()
            process.wait()
        acknowledged = [item.result() for item in adding if item.exception() is None]
        process = start_process(fleet, port)
        wait_for_health(process, url)
        again = [add_leaf(url, fleet.release(str(i))) for i in range(1, 6)]
        assert again[0].index == first.index == 0
        assert {item.index for item in acknowledged} <= {item.index for item in again}
        assert sorted(item.index for item in again) == list(range(5))
        note = LogProof.parse(again[-1].proof).checkpoint
        assert world.policy.verify(note, int(time.time())).size == 5
        process.terminate()
        assert process.wait(10) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def test_a_log_that_lost_its_files_is_not_cosigned(fleet):
    url = fleet.start_log()
    add_leaf(url, fleet.release("1"))
    add_leaf(url, fleet.release("2"))
    fleet.stop_log()
    (fleet.directory / "log").rename(fleet.directory / "lost")
    url = fleet.start_log()
    with pytest.raises(LogUnavailable):
        add_leaf(url, fleet.release("3"))
    assert fleet.get("/checkpoint").status_code == 404


def test_leaves_that_are_not_admitted(world, fleet):
    url = fleet.start_log()
    leaf, bundle = fleet.node("one")
    other, _ = fleet.node("two")
    past, past_bundle = fleet.node("past", not_after=world.at)
    fleet.refuse = {"bad"}
    start = world.start
    node_list = sign_leaf(
        NodeListLeaf(world.epoch, start, start + 600, (), bytes(32)), world.key("list")
    )
    wrong_time = NodeLeaf(world.seed("one"), hashlib.sha256(bundle).digest(), world.at + 9)
    body = NodeLeaf.decode(leaf.body)
    cases = [
        (sign_leaf(ModelLeaf("m", bytes(32)), world.key("issuer")), b"", 403, "wrong_role"),
        (node_list, b"", 403, "wrong_role"),
        (fleet.release(), b"attachment", 400, "malformed"),
        (leaf, b"", 422, "wrong_bundle"),
        (other, bundle, 422, "wrong_bundle"),
        (*fleet.node("bad"), 422, "admission_refused"),
        (past, past_bundle, 422, "admission_refused"),
        (sign_leaf(body, world.key("stranger")), bundle, 422, "admission_refused"),
        (sign_leaf(wrong_time, world.key("receipt one")), bundle, 422, "admission_refused"),
    ]
    for leaf_case, attachment, status, code in cases:
        with pytest.raises(LeafRefused) as caught:
            add_leaf(url, leaf_case, attachment)
        assert (caught.value.status, caught.value.reason) == (status, code)
    mismatch = b"two|tinychat|1|%d" % (world.at + NODE_LIFE_S)
    body = NodeLeaf(world.seed("one"), hashlib.sha256(mismatch).digest(), world.at + NODE_LIFE_S)
    with pytest.raises(LeafRefused, match="another key document"):
        add_leaf(url, sign_leaf(body, world.key("receipt two")), mismatch)
    assert fleet.get("/health").json()["size"] == 0


def test_a_leaf_whose_signature_does_not_verify_is_refused(fleet):
    fleet.start_log()
    data = bytearray(fleet.release().encode())
    data[data.index(b"0.1.0")] ^= 1
    response = fleet.post(cbor.encode({"leaf": bytes(data), "attachment": b""}))
    assert (response.status_code, response.json()["error"]["code"]) == (403, "bad_signature")


def test_bad_input_is_never_an_error_of_the_server(fleet):
    fleet.start_log()
    leaf = fleet.release().encode()
    for body, status in (
        (b"", 400),
        (b"nonsense", 400),
        (cbor.encode([]), 400),
        (cbor.encode({"leaf": leaf}), 400),
        (cbor.encode({"leaf": leaf, "attachment": b"", "more": 1}), 400),
        (cbor.encode({"leaf": "text", "attachment": b""}), 400),
        (cbor.encode({"leaf": leaf[:-1], "attachment": b""}), 400),
        (cbor.encode({"leaf": leaf + b"\0", "attachment": b""}), 400),
        (cbor.encode({"leaf": b"", "attachment": b""}), 400),
        (cbor.encode({"leaf": bytes(65536), "attachment": b""}), 400),
        (cbor.encode({"leaf": leaf, "attachment": bytes((512 << 10) + 1)}), 400),
        (bytes(1 << 20), 413),
    ):
        response = fleet.post(body)
        assert response.status_code == status, body[:20]
        assert set(response.json()["error"]) == {"code", "message"}
    assert fleet.get("/add").status_code == 405


def raw_post(port, path, head, *parts, pause=0.0):
    """Send a request in pieces; return what comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nhost: log\r\n%s\r\n\r\n" % (path, head))
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        answer = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while data := connection.recv(65536):
                answer += data
                if b"\r\n\r\n" in answer and not pause:
                    break
    return answer


@pytest.mark.parametrize("path", [b"/add", b"/alive"])
def test_a_slow_body_is_not_waited_for(fleet, monkeypatch, path):
    monkeypatch.setattr("transparency.body.BODY_TIMEOUT_S", 0.3)
    fleet.start_log()
    began = time.monotonic()
    answer = raw_post(fleet.log.port, path, b"content-length: 1000", *[b"x"] * 20, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("path", [b"/add", b"/alive"])
@pytest.mark.parametrize("head", [b"content-length: 1000000000", b"transfer-encoding: chunked"])
def test_a_body_of_a_gigabyte_is_not_read(fleet, path, head):
    fleet.start_log()
    chunk = b"80000\r\n" + bytes(0x80000) + b"\r\n" if b"chunked" in head else bytes(0x80000)
    answer = raw_post(fleet.log.port, path, head, *[chunk] * 4)
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/add", "/alive"])
def test_what_names_a_member_twice_is_malformed(fleet, path):
    fleet.start_log()
    twice = b"\xa2" + 2 * (cbor.encode("leaf") + cbor.encode(b"x"))
    answer = CLIENT.post(fleet.log.url + path, content=twice)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    answer = CLIENT.post(fleet.log.url + path, content=b'{"leaf":"a","leaf":"b"}')
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")


def test_a_log_nobody_serves_is_unavailable(fleet):
    url = fleet.start_log()
    fleet.stop_log()
    with pytest.raises(LogUnavailable):
        add_leaf(url, fleet.release())


def test_answers_that_hold_no_proof_are_not_taken_for_one(monkeypatch, fleet):
    good = {"index": 0, "proof": "c2sp.org/tlog-proof@v1\nindex 0\n\n"}
    for content in (b"", b"[]", b"{}", json.dumps(good).encode(), b'{"index":1,"proof":1}'):
        response = httpx.Response(200, content=content)
        monkeypatch.setattr(httpx.Client, "post", lambda *_, answer=response, **__: answer)
        with pytest.raises(LogUnavailable):
            add_leaf("http://log.invalid", fleet.release())
    for status, error in ((503, LogUnavailable), (302, LogUnavailable), (418, LeafRefused)):
        response = httpx.Response(status, content=b"no json")
        monkeypatch.setattr(httpx.Client, "post", lambda *_, answer=response, **__: answer)
        with pytest.raises(error):
            add_leaf("http://log.invalid", fleet.release())


def test_the_list_seed_must_be_the_roles(world, fleet):
    config = fleet.config()
    config.list_seed_files[0].write_text(world.seed("stranger").hex() + "\n")

    async def start():
        async with app.build_app(config).router.lifespan_context(app):
            pass

    with pytest.raises(app.WrongRole):
        asyncio.run(start())


def test_epoch_notes_are_kept_for_two_days_and_no_longer(world, tmp_path, monkeypatch):
    monkeypatch.setattr("transparency.files.os.fsync", lambda _: None)
    log = world.fake_log()
    notes = EpochNotes(tmp_path / "epochs", 600)
    for epoch in range(300):
        log.add_node(f"node {epoch}")
        notes.save(epoch, log.note())
        notes.save(epoch, b"never written: the first note of an epoch stays")
    again = EpochNotes(tmp_path / "epochs", 600)
    for kept in (notes, again):
        assert kept.sizes_before(300) == list(range(13, 301))
        assert len(kept.sizes_before(300)) == 288
        assert kept.get(299) == log.note()
        assert kept.get(0) is None


def test_roles_rotate_in_a_running_log(world, fleet, clock):
    fleet.list_seeds = ["list", "list 2"]
    url = fleet.start_log()
    life = {"not_after": int(clock()) + NODE_LIFE_S}
    fleet.add_node("one", **life)
    seen = fleet.nodes().seen
    rotations = [(Role.RELEASE, "release", "release 2"), (Role.LIST, "list", "list 2")]
    for role, old, new in rotations:
        body = KeyRotationLeaf.make(role, world.public(old), world.key(new))
        add_leaf(url, sign_leaf(body, world.key(old)))
    with pytest.raises(LeafRefused) as refused:
        add_leaf(url, fleet.release("old key"))
    assert refused.value.reason == "wrong_role"
    body = ReleaseLeaf("new key", {"simulated": world.seed("m")})
    add_leaf(url, sign_leaf(body, world.key("release 2")))
    clock.now += world.epoch_seconds
    show_alive(url, fleet.sign_of_life("one", **life))
    nodes = fleet.nodes(seen)
    assert nodes.releases == (body,)
    assert nodes.role_keys.list == world.public("list 2")
    fleet.stop_log()
    fleet.list_seeds = ["list 2"]
    url = fleet.start_log()
    assert fleet.nodes(nodes.seen).releases == (body,)
    with pytest.raises(LeafRefused):
        add_leaf(url, fleet.release("old key again"))
    fleet.stop_log()
    fleet.list_seeds = ["list"]
    application = app.build_app(fleet.config(), clock=clock)
    with pytest.raises(WrongRole):
        asyncio.run(_start(application))


async def _start(application):
    async with application.router.lifespan_context(application):
        raise AssertionError("a log without its list key has started")


def test_amendments_that_the_log_could_not_follow_are_refused(world, fleet):
    url = fleet.start_log()
    foreign = KeyRotationLeaf.make(Role.LIST, world.public("list"), world.key("list 2"))
    nothing = WithdrawalLeaf(bytes(32), "nothing")
    for body, signer in ((foreign, "list"), (nothing, "release")):
        with pytest.raises(LeafRefused) as refused:
            add_leaf(url, sign_leaf(body, world.key(signer)))
        assert (refused.value.status, refused.value.reason) == (422, "wrong_amendment")
    back = KeyRotationLeaf.make(Role.RELEASE, world.public("release"), world.key("issuer"))
    with pytest.raises(LeafRefused) as refused:
        add_leaf(url, sign_leaf(back, world.key("release")))
    assert refused.value.reason == "wrong_role"


def test_a_withdrawn_release_admits_no_more_nodes_and_is_shown_to_nobody(world, fleet, clock):
    url = fleet.start_log()
    life = {"not_after": int(clock()) + NODE_LIFE_S}
    shown = []
    fleet.admit_by = shown.append
    leaf = fleet.release()
    add_leaf(url, leaf)
    fleet.add_node("one", **life)
    assert [body.version for body in shown[-1]] == ["0.1.0"]
    assert len(fleet.nodes().releases) == 1
    withdrawal = WithdrawalLeaf(leaf_hash(leaf.encode()), "it lets prompts out")
    add_leaf(url, sign_leaf(withdrawal, world.key("release")))
    fleet.add_node("two", **life)
    assert shown[-1] == ()
    clock.now += world.epoch_seconds
    show_alive(url, fleet.sign_of_life("one", **life))
    nodes = fleet.nodes()
    assert nodes.releases == ()
    assert nodes.withdrawals == (withdrawal,)


def test_leaves_that_race_with_a_rotation_are_in_order_or_refused(world, fleet):
    """Twelve leaves by the old key while the key changes: the log holds none after the rotation."""
    url = fleet.start_log()
    body = KeyRotationLeaf.make(Role.RELEASE, world.public("release"), world.key("release 2"))
    leaves = [fleet.release(str(i)) for i in range(12)]
    leaves.insert(6, sign_leaf(body, world.key("release")))

    def add(leaf):
        try:
            return add_leaf(url, leaf).index
        except LeafRefused as refused:
            return refused.reason

    with ThreadPoolExecutor(13) as pool:
        outcomes = list(pool.map(add, leaves))
    rotated_at = outcomes.pop(6)
    assert all(outcome == "wrong_role" or outcome < rotated_at for outcome in outcomes)
    assert fleet.get("/health").json()["size"] == rotated_at + 1
