"""Keys come and go: into the log, through failures of others, out of memory. Time is made up."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from attestation.attester.simulated import SimulatedAttester
from attestation.bundle import Bundle
from attestation.errors import AttesterFailed
from attestation.verifier.policy import ClientPolicy
from engine.config import EngineConfig
from server import life as life_module
from server.config import OwnAppraisal, WorkerConfig
from server.control import READY, ModelMessage, NodesMessage, decode_for_zygote
from server.engine_ready import EngineReadyLine
from server.errors import StartError
from server.generations import back_off, period
from server.issuer_keys import IssuerUnavailable, fetch_issuer_keys, parse_directory
from server.keeper import Keeper, Keyring
from server.life import Controls, Life
from server.sockets import packet_pair, receive_packet, send_packet
from tests.server import wallet
from tests.server.fake_parts import ready_line
from transparency.errors import LeafRefused, LogUnavailable
from transparency.leaf import RoleKeys
from wire.inner import DATE_WINDOW_S
from wire.key_document import KeyDocument

CONFIG = WorkerConfig(
    model=Path("/model"),
    model_name="tiny",
    engine=EngineConfig(Path("/model")),
    host="127.0.0.1",
    port=1,
    log_url="http://log.invalid",
    issuer_url="http://issuer.invalid",
    issuer_name=wallet.ISSUER_NAME,
    spent_socket=Path("/spent"),
    first_key_id=32,
)
START = 1_800_000_000
ROLES = RoleKeys(b"r" * 32, b"i" * 32, b"l" * 32)
"""Nobody's: a node signs for itself."""


@dataclass
class World:
    """Everybody around a life: a real keeper, and a log and an issuer that can be made to fail."""

    keyring: Keyring
    life: Life
    front: Any
    zygote: Any
    added: list[Any] = field(default_factory=list)
    renewed: list[Any] = field(default_factory=list)
    log_says: Exception | None = None
    issuer_says: Exception | None = None
    issuer_keys: tuple[bytes, ...] = (b"k1",)
    now: float = START
    hushed: int = 0
    told_suspect: bool = False
    waited: list[float] = field(default_factory=list)

    def add_leaf(self, _url: str, leaf: Any, bundle: bytes, *, timeout: float) -> None:
        assert timeout
        if self.log_says:
            raise self.log_says
        self.added.append((leaf, KeyDocument.decode(Bundle.decode(bundle).key_document)))

    def show_alive(self, _url: str, sign: Any, *, timeout: float) -> None:
        assert timeout
        if self.log_says:
            raise self.log_says
        body = sign.verify(ROLES)
        assert body.not_after == int(self.now) + CONFIG.list_epoch_s
        [leaf] = [leaf for leaf, _ in self.added if leaf.key == sign.key]
        assert body.bundle_digest == leaf.unverified_body().bundle_digest
        self.renewed.append((self.now, leaf))

    def fetch(self, _url: str) -> tuple[bytes, ...]:
        if self.issuer_says:
            raise self.issuer_says
        return self.issuer_keys

    def live_until(self, end: float) -> None:
        """Let time pass, as the launcher does."""
        while self.now < end:
            pause = self.life.turn()
            assert pause > 0
            self.now = min(end, self.now + pause)
        self.life.turn()

    def nodes(self) -> dict[str, list[int]]:
        """What the front was told last."""
        nodes: dict[str, list[int]] = {}
        self.front.setblocking(False)
        while True:
            try:
                message = NodesMessage.decode(receive_packet(self.front)[0])
                told, self.told_suspect = message.nodes, message.suspect
                nodes = {node: sorted(c.key_id for c in told[node]) for node in told}
            except BlockingIOError:
                return nodes


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    keeper_end, to_keeper = packet_pair()
    capsules, _zygote_side = packet_pair()
    checks, _front_side = packet_pair()
    front, to_front = packet_pair()
    zygote, to_zygote = packet_pair()
    keyring = Keyring(os.urandom, lambda: 0)
    thread = threading.Thread(target=Keeper(keeper_end, checks, capsules, keyring).serve)
    thread.start()
    engine = EngineReadyLine.parse(ready_line())
    attester = SimulatedAttester(b"s" * 32, b"m" * 32, lambda: START)

    def wait(seconds: float) -> None:
        world.waited.append(seconds)
        world.now += max(seconds, 0.001)
        world.issuer_says = None

    def hush() -> None:
        world.hushed += 1
        assert not any(generation.opened for generation in keyring.generations.values())

    life = Life(
        CONFIG,
        engine,
        attester,
        None,
        Controls(to_keeper, to_front, to_zygote),
        wait=wait,
        before_opening=hush,
        clock=lambda: world.now,
    )
    world = World(keyring, life, front, zygote)
    monkeypatch.setattr(life_module, "add_leaf", world.add_leaf)
    monkeypatch.setattr(life_module, "show_alive", world.show_alive)
    monkeypatch.setattr(life_module, "fetch_issuer_keys", world.fetch)
    yield world
    to_keeper.close()
    thread.join(10)


def test_a_worker_begins_with_the_issuers_keys_and_the_model(world):
    world.issuer_says = IssuerUnavailable("away")
    send_packet(world.zygote, READY)
    world.life.begin()

    assert world.waited
    assert world.waited[0] > 0
    assert decode_for_zygote(receive_packet(world.zygote)[0]) == (b"k1",)
    model = decode_for_zygote(receive_packet(world.zygote)[0])
    assert isinstance(model, ModelMessage)
    assert (model.name, model.folder, model.max_model_len) == ("tiny", Path("/model"), 512)
    assert model.digest == bytes(range(32))


def test_a_zygote_that_says_anything_else_is_refused(world):
    send_packet(world.zygote, b"no")
    with pytest.raises(StartError):
        world.life.begin()


def test_the_first_generation_is_logged_opened_and_told_to_the_front(world):
    world.life.turn()

    ((leaf, document),) = world.added
    assert world.nodes() == {document.node: [32, 33]}
    assert leaf.key == document.receipt_key
    assert document.policy_digest == wallet.digest(world.life.engine.policy)
    assert document.not_after == START + CONFIG.lifetime_s
    assert world.keyring.generations[0].opened
    assert world.hushed == 1


def test_nothing_opens_before_the_log_has_it(world):
    world.log_says = LogUnavailable("away")
    world.live_until(START + 10)

    assert not world.keyring.generations[0].opened
    assert world.nodes() == {}
    assert world.hushed == 0
    world.log_says = None
    world.live_until(START + 60)
    assert world.keyring.generations[0].opened


def test_the_successor_is_listed_while_its_predecessor_has_hours_to_live(world):
    world.live_until(START + CONFIG.rotation_s)

    (_, first), (_, second) = world.added
    assert first.not_after - world.now > 4 * 3600
    assert world.nodes().keys() == {first.node, second.node}
    ids = {config.key_id for document in (first, second) for config in document.key_configs}
    assert ids == {32, 33, 34, 35}
    assert second.receipt_key != first.receipt_key


def test_a_worker_whose_accelerator_is_suspect_lets_its_keys_run_out(world):
    world.live_until(START + 100)
    world.life.suspect()
    assert list(world.nodes()) == [world.added[0][1].node]
    assert world.told_suspect
    shown = len(world.renewed)
    world.live_until(world.life._listed[0].period.erase_at)
    assert (len(world.added), len(world.renewed)) == (1, shown)
    assert not world.keyring.generations


def test_a_generation_shows_that_it_lives_until_its_successor_has_been_listed_long_enough(world):
    world.live_until(START + CONFIG.rotation_s + CONFIG.lead_s + 600)

    (first, _), (second, _) = world.added
    shown = [at for at, leaf in world.renewed if leaf == first]
    pauses = {later - earlier for earlier, later in itertools.pairwise(shown)}
    assert pauses == {CONFIG.list_epoch_s / 4}
    assert shown[0] == START + CONFIG.list_epoch_s / 4
    retired = START + CONFIG.rotation_s + CONFIG.lead_s
    assert retired - 150 <= shown[-1] < retired
    assert world.renewed[-1][1] == second


def test_an_old_generation_is_open_until_no_list_names_it_and_the_date_window_has_passed(world):
    retired = START + CONFIG.rotation_s + CONFIG.lead_s
    first_ends = retired + 2 * CONFIG.list_epoch_s + 30 + DATE_WINDOW_S
    world.live_until(first_ends - 1)
    assert world.keyring.generations[0].opened
    world.live_until(first_ends)
    assert 0 not in world.keyring.generations
    assert world.added[0][1].node not in world.nodes()


@pytest.mark.parametrize("begins", [10, 3000, 3599, 3601, 4000])
def test_a_log_that_is_away_for_an_hour_harms_nobody(world, begins):
    """Whenever it begins: at every moment some listed generation is open and in its time."""
    world.live_until(START + begins)
    world.log_says = LogUnavailable("away")
    while world.now < START + begins + 3600:
        world.live_until(world.now + 60)
        _, listed = world.added[-1]
        assert world.now < listed.not_after - 3600
        assert world.keyring.generations[len(world.added) - 1].opened
    world.log_says = None
    world.live_until(START + begins + 3600 + 31)
    assert world.added[-1][1].not_before > START + begins - CONFIG.rotation_s
    world.live_until(START + begins + 3 * 3600)
    assert len(world.added) >= 3


def test_without_a_log_the_last_generation_serves_until_its_not_after(world):
    world.life.turn()
    world.log_says = LogUnavailable("away")
    ends = START + CONFIG.lifetime_s + CONFIG.grace_s
    world.live_until(ends - 1)
    assert world.keyring.generations[0].opened
    world.live_until(ends)
    assert not any(generation.opened for generation in world.keyring.generations.values())


def test_days_of_rotation_use_no_key_id_twice_at_once(world):
    world.live_until(START + 20 * CONFIG.rotation_s)

    assert len(world.added) == 21
    assert len(world.keyring.generations) <= 3
    assert {i for g in world.keyring.generations.values() for i in g.keys} <= set(range(32, 48))


def test_while_the_log_is_away_the_last_generation_serves_and_the_retries_slow_down(world):
    world.life.turn()
    world.log_says = LogUnavailable("away")
    world.live_until(START + CONFIG.rotation_s + 900)

    assert world.keyring.generations[0].opened
    assert len(world.keyring.generations) == 2
    world.log_says = None
    world.live_until(START + CONFIG.rotation_s + 1000)
    assert len(world.added) == 2


def test_a_document_that_waited_for_the_log_too_long_is_replaced_by_a_fresh_one(world):
    world.log_says = LeafRefused(422, "admission_refused", "no")
    world.live_until(START + CONFIG.rotation_s + 60)
    world.log_says = None
    world.live_until(START + CONFIG.rotation_s + 120)

    ((_, document),) = world.added
    assert document.not_before >= START + CONFIG.rotation_s - 60
    assert list(world.keyring.generations) == [1]


def test_new_issuer_keys_reach_the_zygote_and_an_issuer_that_is_away_changes_nothing(world):
    world.live_until(START + 10)
    assert decode_for_zygote(receive_packet(world.zygote)[0]) == (b"k1",)
    world.issuer_says = IssuerUnavailable("away")
    world.live_until(START + 400)
    world.issuer_says, world.issuer_keys = None, (b"k2", b"k1")
    world.live_until(START + 800)
    assert decode_for_zygote(receive_packet(world.zygote)[0]) == (b"k2", b"k1")
    world.zygote.setblocking(False)
    with pytest.raises(BlockingIOError):
        receive_packet(world.zygote)


# ---- times ----


def test_the_times_of_a_generation_follow_from_the_configuration():
    made = period(CONFIG, 9, START + 59.5)

    assert made.key_ids == (34, 35)  # 16 ids are 8 generations: the tenth is the second again
    assert made.not_before == START
    assert made.next_at == START + 59 + 3600
    assert made.not_after == START + 59 + 6 * 3600 - 60
    assert made.erase_at == made.not_after + 600 + 300


def test_retries_slow_down_to_half_a_minute():
    assert [back_off(n) for n in (1, 2, 3, 7, 50)] == [0.5, 1.0, 2.0, 30.0, 30.0]


@pytest.mark.parametrize(
    "change",
    [
        {"lead_s": 0},
        {"lead_s": 3600},
        {"rotation_s": 21600},
        {"lifetime_s": 21600},
        {"key_ids": 5},
        {"first_key_id": 250},
        {"rotation_s": 60, "lead_s": 20},  # more generations alive than key ids
        {"pool": 0},
        {"max_marks": 0},
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValueError, match=r"\w"):
        replace(CONFIG, **change)


# ---- the engine's line ----


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"not json", ready_line().replace(b'"policy"', b'"other"'), b'{"a":1']
    + [ready_line().replace(bytes(range(32)).hex().encode(), digest) for digest in (b"00", b"zz")],
)
def test_a_ready_line_that_cannot_be_read_is_refused(line):
    with pytest.raises(StartError):
        EngineReadyLine.parse(line)


# ---- the issuer's directory ----


def test_the_directory_of_an_issuer_is_read(new_neighbours):
    neighbours = new_neighbours()
    assert fetch_issuer_keys(neighbours.issuer.url) == (wallet.spki(),)
    neighbours.issuer.down = True
    with pytest.raises(IssuerUnavailable):
        fetch_issuer_keys(neighbours.issuer.url)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token-keys":[]}',
        b'{"token-keys":[{"token-type":1,"token-key":"AAAA"}]}',
        b'{"token-keys":[{"token-type":2,"token-key":"AAAA"}]}',
        b'{"token-keys":[{"token-type":2,"token-key":7}]}',
        b'{"token-keys":[{"token-type":2}]}',
        b'{"token-keys":[{"token-type":2,"token-key":"\\ud800"}]}',
    ],
)
def test_what_is_no_directory_is_refused(content):
    with pytest.raises(IssuerUnavailable):
        parse_directory(content)


def test_an_issuer_that_is_not_there_is_unavailable():
    with pytest.raises(IssuerUnavailable):
        fetch_issuer_keys("http://127.0.0.1:9", timeout=0.5)


class Fickle:
    """A platform that quotes only while `answers` says so."""

    platform = "simulated"
    answers = True

    def attest(self, report_data):
        if not self.answers:
            raise AttesterFailed("busy")
        return SimulatedAttester(b"s" * 32, b"m" * 32, lambda: START).attest(report_data)


def test_a_worker_whose_platform_does_not_quote_does_not_start(world):
    world.life.attester = Fickle()
    world.life.attester.answers = False
    with pytest.raises(StartError):
        world.life.turn()
    assert not world.keyring.generations


def test_a_platform_that_is_silent_for_a_while_harms_nobody(world):
    world.life.attester = fickle = Fickle()
    world.live_until(START + 60)
    [first] = world.nodes()
    fickle.answers = False
    world.live_until(START + CONFIG.rotation_s + 60)
    assert len(world.added) == 1
    assert len(world.keyring.generations) == 1
    fickle.answers = True
    world.live_until(START + CONFIG.rotation_s + 600)
    assert len(world.added) == 2
    assert first in world.nodes()


def test_a_worker_that_its_own_verifier_refuses_does_not_start(world):
    refuse_all = OwnAppraisal(ClientPolicy(), {}, "log.test")
    world.life.config = replace(CONFIG, appraisal=refuse_all)
    with pytest.raises(StartError):
        world.life.turn()
    assert world.added == []
