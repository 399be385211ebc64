"""One connection of the direct port, in a capsule of its own: TLS, HTTP, one request in clear.

    1 handshake  TLS 1.3, under the key the quote binds; the keeper signs    else an alert
    2 read       one HTTP/1.1 request                                        else 400, 413, 431
    3 evidence   GET /health, GET /v1/attestation need no key                200
    4 authorise  an API key whose hash is configured                         else 401
    5 prepare    the OpenAI request: validate, template, tokenise            else its 4xx
    6 admit      the node has room                                           else 503 busy
    7 run        compute, send, and the receipt after the engine has erased

The client's address and its key are known to whoever runs this, and whoever names the node chooses
it: the receipt's verdict says `T: fail`. The salts are random and sent along; nothing is padded.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass

from attestation.bundle import MEDIA_TYPE, Bundle
from attestation.verdict import Outcome, Step
from server import answers
from server.capsule import Surroundings, abandon, end_failed
from server.config import DirectPort
from server.connections import KeeperConnection, WatchedEngine
from server.control import ADMIT, ADMITTED, CONNECTION, DirectMessage
from server.delivery import Delivery
from server.direct_connection import DirectConnection
from server.direct_http import DirectHttp, DirectRequest, DirectResponder
from server.errors import ClientGone, PeerGone, ProtocolError
from server.openai.errors import ApiError, WrongMethod
from server.receipts import Issuance, Receipts
from server.sockets import receive_packet, send_packet
from wire import bhttp
from wire.ohttp import SALT_LENGTH
from wire.tls13 import Identity, ServerConnection
from wire.tls13_keys import KeySchedule, Protection, finished
from wire.tls13_messages import CipherSuite, Handshake, message

BODY_TIMEOUT_S = 30.0

STEPS = (
    Step("evidence", Outcome.SKIP, "sent by the worker itself: only its client can judge it"),
    Step(
        "T",
        Outcome.FAIL,
        "direct: whoever gave the address chose the node, which sees the client's address and key",
    ),
)
"""What the worker says of this way in, in the place of a verdict."""

UNAUTHORISED = ApiError(
    401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."
)
BEARER = (b"www-authenticate", b"Bearer")
BUSY = ApiError(503, "server_error", "busy", "The node is busy.")
NO_NONCE = ApiError(
    400,
    "invalid_request_error",
    "nonce_unsupported",
    "This node gives no evidence over a nonce; ask without one.",
    "nonce",
)


@dataclass(frozen=True)
class DirectNode:
    """The generation that a capsule shows, all of it public but for the hashes of the API keys."""

    key_document: bytes
    certificate: bytes
    bundle: bytes
    quote: bytes
    port: DirectPort

    @classmethod
    def of(cls, message: DirectMessage, bundle: bytes, port: DirectPort) -> DirectNode:
        """Put together what the launcher told."""
        quote = Bundle.decode(bundle).quote
        return cls(message.key_document, message.certificate, bundle, quote, port)

    def knows(self, key: bytes) -> bool:
        """Whether this is an API key of ours. Looks at every hash, whichever matches."""
        digest = hashlib.sha256(key).digest()
        return bool(sum([hmac.compare_digest(digest, known) for known in self.port.keys]))


@dataclass(frozen=True)
class Ends:
    """A direct capsule's ends, before its connection has come."""

    door: socket.socket
    keeper: KeeperConnection
    engine: WatchedEngine


def serve(ends: Ends, surroundings: Surroundings, node: DirectNode) -> None:
    """Serve the one connection of this process; return when there is nothing left to do.

    Raises:
        ClientGone: the client has gone; slots are erased, or the engine has gone too.
    """
    sock = _wait_for_connection(ends.door)
    identity = Identity(
        node.certificate, lambda digest: ends.keeper.handshake(node.key_document, digest)
    )
    connection = DirectConnection(sock, ServerConnection(identity, surroundings.random))
    head_until = connection.handshake(node.port.handshake_timeout_s)
    engine = ends.engine
    engine.watch(sock, connection.gone)
    http = DirectHttp(connection)
    respond = DirectResponder(connection, http, b"req_" + surroundings.random(16).hex().encode())
    capsule = DirectCapsule(ends, surroundings, node, respond)
    try:
        capsule.answer(lambda: http.request(head_until, BODY_TIMEOUT_S))
    except ClientGone:
        abandon(engine)
        raise
    except Exception as failure:  # noqa: BLE001 - a decision: its traceback holds the request
        abandon(engine)
        capsule.fail(answers.of_failure(failure))


def _wait_for_connection(door: socket.socket) -> socket.socket:
    try:
        packet, descriptors = receive_packet(door, sockets=1, family=socket.AF_INET)
    except PeerGone:
        raise ClientGone from None
    if packet != CONNECTION:
        raise ProtocolError("a connection comes first")
    return descriptors[0]


class DirectCapsule:
    """Steps 2 to 7 of one connection."""

    def __init__(
        self,
        ends: Ends,
        surroundings: Surroundings,
        node: DirectNode,
        respond: DirectResponder,
    ) -> None:
        self._door = ends.door
        self._keeper = ends.keeper
        self._surroundings = surroundings
        self._node = node
        self._engine = ends.engine
        self._respond = respond

    def answer(self, read: Callable[[], DirectRequest]) -> None:
        """Answer the one request, whatever the answer is."""
        try:
            request = read()
            if (evidence := self._evidence(request)) is not None:
                self._respond.whole(evidence)
            else:
                self._authorise(request)
                self._compute(request)
        except ApiError as error:
            if self._respond.begun:
                self._respond.cut()  # the application has sent the error as an event
            else:
                challenge = (BEARER,) if error is UNAUTHORISED else ()
                self._respond.error(error, *challenge)

    def fail(self, error: ApiError) -> None:
        """Say that the request failed; never raises."""
        end_failed(self._respond, error, lambda: self._respond.error(error))

    def _evidence(self, request: DirectRequest) -> bhttp.Response | None:
        """Answer what a client must know before it shows its key."""
        if request.path not in (b"/health", b"/v1/attestation"):
            return None
        if request.method != b"GET":
            raise WrongMethod("GET")
        if request.path == b"/health":
            health = {"status": "ok", "node": self._node.key_document.hex()}
            return bhttp.Response(200, (answers.JSON_TYPE,), json.dumps(health).encode())
        if request.query:
            raise NO_NONCE
        kind = (b"content-type", MEDIA_TYPE.encode())
        return bhttp.Response(200, (kind, answers.NO_STORE), self._node.bundle)

    def _authorise(self, request: DirectRequest) -> None:
        values = request.values(b"authorization")
        scheme, _, key = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        if not (self._node.knows(key) and scheme.lower() == b"bearer"):
            raise UNAUTHORISED

    def _compute(self, request: DirectRequest) -> None:
        surroundings = self._surroundings
        plan = surroundings.application.prepare(request.method, request.path, request.body)
        self._admit()
        issuance = Issuance(
            self._node.key_document,
            surroundings.platform,
            surroundings.random(SALT_LENGTH),
            surroundings.random(SALT_LENGTH),
            self._node.quote,
            STEPS,
        )
        receipts = Receipts(issuance, self._keeper, request.path, request.body)
        Delivery(plan, self._respond, receipts).run(
            self._engine,
            lambda: int.from_bytes(surroundings.random(8), "big"),
            int(surroundings.clock()),
        )

    def _admit(self) -> None:
        send_packet(self._door, ADMIT)
        if receive_packet(self._door)[0] != ADMITTED:
            raise BUSY


_HELLO = message(
    Handshake.CLIENT_HELLO,
    bytes.fromhex("0303" + "00" * 32 + "00" + "00021301" + "0100" + "0041")
    + bytes.fromhex("000a00040002001d" + "000d000400020403" + "002b0003020304")
    + bytes.fromhex("003300260024001d0020" + "09" + "00" * 31),  # the base point is a share
)


def rehearse(node: DirectNode) -> None:
    """Go through a made-up handshake and a made-up request: what they load must have been loaded.

    A confined capsule opens no file, and whatever it touches first it copies (`server.rehearsal`).
    """
    tls = ServerConnection(Identity(node.certificate, lambda _: bytes(70)), bytes)
    tls.receive(b"\x16\x03\x01" + len(_HELLO).to_bytes(2, "big") + _HELLO)
    tls.to_send()
    secret, _ = KeySchedule(bytes(32)).application_secrets(bytes(32))
    for suite in CipherSuite:
        record = Protection(suite, finished(secret, bytes(32))).seal(23, b"x")
        Protection(suite, finished(secret, bytes(32))).open(record[:5], record[5:])
    node.knows(b"")
