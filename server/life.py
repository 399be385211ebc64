"""A worker's life once its engine is ready: into the log, and ever new keys.

Everything outside may be away for a while: the log, the issuer. It is asked again, slower and
slower, while the keys that are listed go on serving until their not-after.
"""

from __future__ import annotations

import hashlib
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from attestation.attester.base import Attester, Gpus
from attestation.errors import AttesterFailed
from server.config import WorkerConfig
from server.control import (
    READY,
    DirectMessage,
    ModelMessage,
    NodesMessage,
    encode_direct,
    encode_issuer,
)
from server.engine_ready import EngineReadyLine
from server.errors import StartError
from server.generations import back_off, period
from server.issuer_keys import IssuerUnavailable, fetch_issuer_keys
from server.keeper_control import KeeperControl
from server.logs import (
    AcceleratorSuspect,
    CodeName,
    GenerationErased,
    GenerationListed,
    IssuerKeysChanged,
    LeafNotTaken,
    Neighbour,
    NeighbourWaited,
    NodeName,
    WorkerReady,
    emit,
)
from server.registration import NodeAttester, Registration, check_own_evidence, register
from server.sockets import receive_packet, send_packet
from transparency.errors import LeafRefused, LogUnavailable
from transparency.leaf import Leaf
from transparency.publish import add_leaf, show_alive

LOG_TIMEOUT_S = 10.0

SIGNS_OF_LIFE = 4
"""How often in an epoch a worker shows that it lives: three signs may be lost."""


@dataclass(frozen=True)
class Controls:
    """The launcher's ends of the sockets to the roles it goes on talking to."""

    keeper: socket.socket
    front: socket.socket
    zygote: socket.socket


@dataclass
class Life:
    """The schedule of one worker, and what it has come to.

    Args:
        wait: sleeps, and raises when a role dies.
        before_opening: called once, before any request can be opened.
        clock: Unix seconds.
    """

    config: WorkerConfig
    engine: EngineReadyLine
    attester: Attester
    gpus: Gpus | None
    controls: Controls
    wait: Callable[[float], None]
    before_opening: Callable[[], None]
    clock: Callable[[], float] = time.time
    _listed: list[Registration] = field(default_factory=list)
    _retire_at: dict[int, float] = field(default_factory=dict)
    _pending: Registration | None = None
    _next_number: int = 0
    _attempts: int = 0
    _next_try: float = 0.0
    _next_sign_of_life: float = 0.0
    _issuer_keys: tuple[bytes, ...] = ()
    _issuer_attempts: int = 0
    _next_issuer: float = 0.0
    _suspect: bool = False

    def __post_init__(self) -> None:
        self._keeper = KeeperControl(self.controls.keeper)

    def begin(self) -> None:
        """Wait for the issuer's keys, and have the first capsules forked.

        Raises:
            StartError: the zygote said something else than that it is ready.
        """
        while not self._issuer_keys:
            self._refresh_issuer()
            if not self._issuer_keys:
                self.wait(self._next_issuer - self.clock())
        send_packet(self.controls.zygote, self._model().encode())
        self.wait_for_zygote()

    def wait_for_zygote(self) -> None:
        """Wait until the zygote says that capsules wait."""
        packet, _ = receive_packet(self.controls.zygote)
        if packet != READY:
            raise StartError("the zygote said something unexpected")

    def turn(self) -> float:
        """Do what is due now; return how many seconds until something may be due again."""
        now = self.clock()
        self._erase_old(now)
        if now >= self._next_issuer:
            self._refresh_issuer()
        if now >= self._next_try:
            self._renew()
        if now >= self._next_sign_of_life:
            self._stay_listed(now)
        due = [self._next_issuer, self._next_try, self._next_sign_of_life]
        due += [self._erase_at(old) for old in self._listed]
        return max(0.0, min(due) - self.clock())

    def suspect(self) -> None:
        """The accelerator failed a check: what is listed runs out, and nothing follows it.

        Who asks meanwhile gets a signed failure; the log forgets the node with its next list.
        """
        self._suspect = True
        self._next_try = self._next_sign_of_life = math.inf
        emit(AcceleratorSuspect())
        self._tell_front()

    # ---- generations ----

    def _renew(self) -> None:
        try:
            pending = self._young_pending() or self._make()
        except AttesterFailed as error:
            self._quote_later(error)
            return
        try:
            add_leaf(self.config.log_url, pending.leaf, pending.bundle, timeout=LOG_TIMEOUT_S)
        except LogUnavailable:
            self._try_later(pending, NeighbourWaited(Neighbour.LOG, self._attempts + 1))
        except LeafRefused as refused:
            self._try_later(pending, LeafNotTaken(CodeName(refused.reason)))
        else:
            self._open(pending)

    def _young_pending(self) -> Registration | None:
        """The generation that waits for the log, unless by now its successor would be due."""
        pending = self._pending
        if pending is None or self.clock() < pending.period.next_at:
            return pending
        self._keeper.erase(pending.period.number)
        self._pending = None
        return None

    def _make(self) -> Registration:
        made = period(self.config, self._next_number, self.clock())
        registered = register(self.config, self.engine, made, self._keeper, self._node_attester)
        self._next_number += 1  # a generation that was not quoted leaves its number to the next
        if made.number == 0:
            # Later ones the log judges, while the worker serves under what is listed.
            check_own_evidence(self.config, registered.bundle, at=int(self.clock()))
        return registered

    def _quote_later(self, error: AttesterFailed) -> None:
        if not self._listed:
            raise StartError("the platform does not quote") from error
        self._attempts += 1
        emit(NeighbourWaited(Neighbour.PLATFORM, self._attempts))
        self._next_try = self.clock() + back_off(self._attempts)

    def _try_later(self, pending: Registration, event: NeighbourWaited | LeafNotTaken) -> None:
        emit(event)
        self._attempts += 1
        self._pending = pending
        self._next_try = self.clock() + back_off(self._attempts)

    def _open(self, registered: Registration) -> None:
        if not self._listed:
            self.before_opening()
        self._pending, self._attempts = None, 0
        self._keeper.open(registered.period.number)
        first = not self._listed
        for old in self._listed:
            self._retire_at.setdefault(old.period.number, self.clock() + self.config.lead_s)
        self._listed.append(registered)
        self._tell_front()
        self._show_directly(registered)
        self._next_try = float(registered.period.next_at)
        emit(GenerationListed(NodeName(registered.node), registered.period.not_after))
        if first:
            self._next_sign_of_life = self.clock() + self._sign_of_life_s
            emit(WorkerReady(NodeName(registered.node)))

    def _erase_old(self, now: float) -> None:
        for old in [listed for listed in self._listed if self._erase_at(listed) <= now]:
            self._listed.remove(old)
            self._retire_at.pop(old.period.number, None)
            self._tell_front()
            self._keeper.erase(old.period.number)
            emit(GenerationErased(NodeName(old.node)))

    def _stay_listed(self, now: float) -> None:
        """Give the signs of life without which the log does not list a node."""
        for listed in self._listed:
            if now >= min(listed.period.not_after, self._retired_at(listed)):
                continue
            until = int(now) + self.config.list_epoch_s
            digest = hashlib.sha256(listed.bundle).digest()
            sign = self._keeper.sign_leaf(listed.period.number, digest, until)
            try:
                show_alive(self.config.log_url, Leaf.decode(sign), timeout=LOG_TIMEOUT_S)
            except (LogUnavailable, LeafRefused):
                emit(NeighbourWaited(Neighbour.LOG, 1))
        self._next_sign_of_life = self.clock() + self._sign_of_life_s

    def _retired_at(self, listed: Registration) -> float:
        """When a generation stops to show that it lives; never, without a listed successor."""
        return self._retire_at.get(listed.period.number, math.inf)

    def _erase_at(self, listed: Registration) -> float:
        retired = self._retired_at(listed) + self.config.retired_grace_s
        return min(listed.period.erase_at, retired)

    @property
    def _node_attester(self) -> NodeAttester:
        return NodeAttester(self.attester, self.gpus, self.engine.policy, self.config.collateral)

    @property
    def _sign_of_life_s(self) -> float:
        return self.config.list_epoch_s / SIGNS_OF_LIFE

    def _tell_front(self) -> None:
        nodes = {listed.node: listed.key_configs for listed in self._listed}
        send_packet(self.controls.front, NodesMessage(nodes, self._suspect).encode())

    # ---- fresh quotes ----

    def quote(self, key_id: int, nonce: bytes) -> bytes:
        """Return a bundle over a client's nonce, of the generation with this key id.

        Nothing if that generation has gone, or the platform does not quote.
        """
        for listed in self._listed:
            if key_id in listed.period.key_ids:
                try:
                    return self._node_attester.bundle(listed.document, nonce)
                except AttesterFailed:
                    emit(NeighbourWaited(Neighbour.PLATFORM, 1))
        return b""

    def _show_directly(self, registered: Registration) -> None:
        """Have the direct port, if there is one, show this generation from now on."""
        if not registered.certificate:
            return
        message = DirectMessage(bytes.fromhex(registered.node), registered.certificate)
        for packet in encode_direct(message, registered.bundle):
            send_packet(self.controls.zygote, packet)

    # ---- the issuer's keys, and the model ----

    def _refresh_issuer(self) -> None:
        try:
            keys = fetch_issuer_keys(self.config.issuer_url)
        except IssuerUnavailable:
            self._issuer_attempts += 1
            emit(NeighbourWaited(Neighbour.ISSUER, self._issuer_attempts))
            self._next_issuer = self.clock() + back_off(self._issuer_attempts)
            return
        self._issuer_attempts = 0
        self._next_issuer = self.clock() + self.config.issuer_refresh_s
        if keys != self._issuer_keys:
            self._issuer_keys = keys
            send_packet(self.controls.zygote, encode_issuer(keys))
            emit(IssuerKeysChanged(len(keys)))

    def _model(self) -> ModelMessage:
        return ModelMessage(
            name=self.config.model_name,
            folder=self.config.model,
            max_model_len=self.engine.max_model_len,
            vocab_size=self.engine.vocab_size,
            created=int(self.clock()),
            token_budget=self.config.token_budget,
            digest=self.engine.model_digest,
        )
