"""The server's side of one TLS 1.3 connection (RFC 8446), without input or output.

It exists because the private key must not be where a request is in clear: whoever terminates the
connection has its keys, and has the CertificateVerify signed elsewhere, over 32 bytes of transcript
hash. There is one way through it:

    ClientHello [HelloRetryRequest ClientHello] ServerHello ... Finished, Finished, data

No resumption, no tickets, no early data, no client certificates, no other version. KeyUpdate is
followed. Everything that RFC 8446 has refused is refused with its alert, and a connection that has
failed stays failed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wire import tls13_messages as messages
from wire.tls13_keys import (
    HASH_LENGTH,
    MAX_CIPHERTEXT,
    MAX_PLAINTEXT,
    KeySchedule,
    Protection,
    finished,
)
from wire.tls13_messages import Alert, ClientHello, Handshake, TlsFailure, parse_client_hello

MAX_KEY_UPDATES = 32
"""Of one connection. A request and its answer need none."""

MAX_EMPTY_RECORDS = 64
"""Records of application data without any, of one connection."""

_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_FATAL, _WARNING = 2, 1
_CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"


class _Content(IntEnum):
    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


class _State(Enum):
    CLIENT_HELLO = 0
    SECOND_CLIENT_HELLO = 1
    FINISHED = 2
    ESTABLISHED = 3
    CLOSED = 4
    FAILED = 5


@dataclass(frozen=True)
class Identity:
    """Who the server is.

    Attributes:
        certificate: DER, of an ECDSA key on P-256.
        sign: returns that key's signature (DER, SHA-256) over
            `tls13_messages.to_be_signed(transcript hash)`, given the transcript hash.
    """

    certificate: bytes
    sign: Callable[[bytes], bytes]


class ServerConnection:
    """One connection, from the ClientHello to its end. `random` returns that many random bytes."""

    def __init__(self, identity: Identity, random: Callable[[int], bytes]) -> None:
        self._identity = identity
        self._random = random
        self._state = _State.CLIENT_HELLO
        self._records = bytearray()
        self._handshake = bytearray()
        self._outgoing = bytearray()
        self._transcript = hashlib.sha256()
        self._first: ClientHello | None = None
        self._read: Protection | None = None
        self._write: Protection | None = None
        self._expected_finished = b""
        self._after_finished: Protection | None = None
        self._spare_ccs = 2
        self._key_updates = 0
        self._empty_records = 0

    @property
    def established(self) -> bool:
        """Whether the handshake is complete and the client has not said that it is done."""
        return self._state is _State.ESTABLISHED

    @property
    def closed(self) -> bool:
        """Whether the client has said, authentically, that nothing more will come."""
        return self._state is _State.CLOSED

    def to_send(self) -> bytes:
        """Return what is to be sent now, alerts included, and forget it."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def receive(self, data: bytes) -> bytes:
        """Take the next bytes of the stream; return the application data in them.

        Raises:
            TlsFailure: the connection has failed. `to_send` then has the alert, if one is due.
        """
        if self._state is _State.FAILED:
            raise TlsFailure(None, "the connection has failed before")
        self._records += data
        try:
            return self._receive()
        except TlsFailure as failure:
            self._fail(failure.alert)
            raise

    def send(self, data: bytes) -> None:
        """Protect application data, and put it with what is to be sent.

        Raises:
            ValueError: there is no handshake to protect it under.
        """
        if self._write is None or self._state not in (_State.ESTABLISHED, _State.CLOSED):
            raise ValueError("no established connection")
        for at in range(0, len(data), MAX_PLAINTEXT):
            piece = data[at : at + MAX_PLAINTEXT]
            self._outgoing += self._write.seal(_Content.APPLICATION_DATA, piece)

    def close(self) -> None:
        """Say that nothing more will come from us."""
        if self._state is not _State.FAILED:
            self._alert(Alert.CLOSE_NOTIFY)

    def abort(self) -> None:
        """Say that something of ours failed; the connection is over."""
        if self._state is not _State.FAILED:
            self._fail(Alert.INTERNAL_ERROR)

    # ---- records ----

    def _receive(self) -> bytes:
        received = []
        while self._state is not _State.CLOSED and (record := self._next_record()) is not None:
            received.append(self._on_record(*record))
        return b"".join(received)

    def _next_record(self) -> tuple[bytes, bytes] | None:
        """Take one whole record off what was received; None if there is none (yet)."""
        records = self._records
        if len(records) < _RECORD_HEADER:
            self._check_header(bytes(records))
            return None
        header = bytes(records[:_RECORD_HEADER])
        self._check_header(header)
        end = _RECORD_HEADER + int.from_bytes(header[3:], "big")
        if len(records) < end:
            return None
        record = bytes(records[_RECORD_HEADER:end])
        del records[:end]
        return header, record

    def _check_header(self, start: bytes) -> None:
        """Refuse what does not begin like a record of ours, as early as it shows."""
        if start and start[0] not in set(_Content):
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "not a record")
        if len(start) > 1 and start[1] != 3:
            raise TlsFailure(Alert.PROTOCOL_VERSION, "a record of another protocol")
        if len(start) == _RECORD_HEADER:
            most = MAX_CIPHERTEXT if start[0] == _Content.APPLICATION_DATA else MAX_PLAINTEXT
            if int.from_bytes(start[3:], "big") > most:
                raise TlsFailure(Alert.RECORD_OVERFLOW, "a record that is too long")

    def _on_record(self, header: bytes, record: bytes) -> bytes:
        kind = header[0]
        if kind == _Content.CHANGE_CIPHER_SPEC:
            self._on_change_cipher_spec(record)
        elif kind == _Content.APPLICATION_DATA and self._read is not None:
            return self._on_content(*self._read.open(header, record))
        elif kind == _Content.ALERT and self._state is not _State.ESTABLISHED:
            self._on_alert(record)  # a client without our keys can only say it in clear
        elif kind == _Content.HANDSHAKE and self._read is None:
            self._on_handshake(record)
        else:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "a record out of turn")
        return b""

    def _on_change_cipher_spec(self, record: bytes) -> None:
        """Pass over what some clients send for old middleboxes (RFC 8446, section 5)."""
        waiting = self._state in (_State.SECOND_CLIENT_HELLO, _State.FINISHED)
        if record != b"\x01" or not waiting or not self._spare_ccs or self._handshake:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "a change_cipher_spec out of turn")
        self._spare_ccs -= 1

    def _on_content(self, kind: int, content: bytes) -> bytes:
        if self._handshake and kind != _Content.HANDSHAKE:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "a record inside a handshake message")
        if kind == _Content.HANDSHAKE:
            self._on_handshake(content)
        elif kind == _Content.ALERT:
            self._on_alert(content)
        elif kind == _Content.APPLICATION_DATA and self._state is _State.ESTABLISHED:
            self._count_empty(content)
            return content
        else:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "content out of turn")
        return b""

    def _count_empty(self, content: bytes) -> None:
        self._empty_records += not content
        if self._empty_records > MAX_EMPTY_RECORDS:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "too many empty records")

    def _on_alert(self, content: bytes) -> None:
        if len(content) != 2:
            raise TlsFailure(Alert.DECODE_ERROR, "an alert of another length")
        if content[1] == Alert.USER_CANCELED:
            return  # a close_notify follows
        if content[1] == Alert.CLOSE_NOTIFY and self._state is _State.ESTABLISHED:
            self._state = _State.CLOSED
            return
        raise TlsFailure(None, "the client gave up")

    def _alert(self, alert: Alert) -> None:
        level = _WARNING if alert is Alert.CLOSE_NOTIFY else _FATAL
        self._put(_Content.ALERT, bytes([level, alert]))

    def _fail(self, alert: Alert | None) -> None:
        self._state = _State.FAILED
        self._records.clear()
        if alert is not None:
            self._alert(alert)

    def _put(self, kind: _Content, content: bytes) -> None:
        if self._write is not None:
            self._outgoing += self._write.seal(kind, content)
        else:
            self._outgoing += (
                bytes([kind]) + b"\x03\x03" + len(content).to_bytes(2, "big") + content
            )

    # ---- handshake messages ----

    def _on_handshake(self, content: bytes) -> None:
        if not content:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "a handshake record of no bytes")
        self._handshake += content
        while len(self._handshake) >= _MESSAGE_HEADER:
            length = int.from_bytes(self._handshake[1:_MESSAGE_HEADER], "big")
            self._check_turn(self._handshake[0], length)
            end = _MESSAGE_HEADER + length
            if len(self._handshake) < end:
                return
            message = bytes(self._handshake[:end])
            del self._handshake[:end]
            if self._handshake:
                # Each of a client's messages is the last under its keys, or waits for an answer.
                raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "two handshake messages in one record")
            self._on_message(message)

    def _check_turn(self, kind: int, length: int) -> None:
        expected, most = {
            _State.CLIENT_HELLO: (Handshake.CLIENT_HELLO, messages.MAX_CLIENT_HELLO),
            _State.SECOND_CLIENT_HELLO: (Handshake.CLIENT_HELLO, messages.MAX_CLIENT_HELLO),
            _State.FINISHED: (Handshake.FINISHED, HASH_LENGTH),
        }.get(self._state, (Handshake.KEY_UPDATE, 1))
        if kind != expected:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "a handshake message out of turn")
        if length > most:
            raise TlsFailure(Alert.DECODE_ERROR, "a handshake message that is too long")

    def _on_message(self, message: bytes) -> None:
        if self._state in (_State.CLIENT_HELLO, _State.SECOND_CLIENT_HELLO):
            self._on_client_hello(message, parse_client_hello(message[_MESSAGE_HEADER:]))
        elif self._state is _State.FINISHED:
            self._on_finished(message[_MESSAGE_HEADER:])
        else:
            self._on_key_update(message[_MESSAGE_HEADER:])

    def _on_client_hello(self, message: bytes, hello: ClientHello) -> None:
        if self._first is not None and (
            hello.share is None
            or hello.random != self._first.random
            or hello.session_id != self._first.session_id
            or hello.suite != self._first.suite
            or hello.http != self._first.http
        ):
            raise TlsFailure(Alert.ILLEGAL_PARAMETER, "a second ClientHello that is another")
        if hello.share is None:
            self._retry(message, hello)
        else:
            self._transcript.update(message)
            self._answer(hello, hello.share)

    def _retry(self, message: bytes, hello: ClientHello) -> None:
        digest = hashlib.sha256(message).digest()
        self._transcript.update(messages.message(Handshake.MESSAGE_HASH, digest))
        self._say(messages.hello_retry_request(hello))
        self._change_cipher_spec(hello)
        self._first, self._state = hello, _State.SECOND_CLIENT_HELLO

    def _answer(self, hello: ClientHello, share: bytes) -> None:
        """Send everything from ServerHello to Finished, and derive all keys."""
        ephemeral = X25519PrivateKey.from_private_bytes(self._random(32))
        schedule = KeySchedule(_exchange(ephemeral, share))
        public = ephemeral.public_key().public_bytes_raw()
        self._say(messages.server_hello(hello, self._random(32), public))
        if self._first is None:
            self._change_cipher_spec(hello)
        client, server = schedule.handshake_secrets(self._transcript.digest())
        self._read = Protection(hello.suite, client)
        self._write = Protection(hello.suite, server)
        self._say(
            messages.encrypted_extensions(http=hello.http),
            messages.certificate(self._identity.certificate),
        )
        signature = self._identity.sign(self._transcript.digest())
        self._say(messages.certificate_verify(signature))
        verify_data = finished(server, self._transcript.digest())
        self._say(messages.message(Handshake.FINISHED, verify_data))
        self._expected_finished = finished(client, self._transcript.digest())
        client, server = schedule.application_secrets(self._transcript.digest())
        self._after_finished = Protection(hello.suite, client)
        self._write = Protection(hello.suite, server)
        self._state = _State.FINISHED

    def _on_finished(self, verify_data: bytes) -> None:
        if len(verify_data) != HASH_LENGTH:
            raise TlsFailure(Alert.DECODE_ERROR, "a Finished of another length")
        if not hmac.compare_digest(verify_data, self._expected_finished):
            raise TlsFailure(Alert.DECRYPT_ERROR, "a Finished that does not verify")
        self._read, self._after_finished = self._after_finished, None
        self._state = _State.ESTABLISHED

    def _on_key_update(self, body: bytes) -> None:
        if len(body) != 1:
            raise TlsFailure(Alert.DECODE_ERROR, "a KeyUpdate of another length")
        if body[0] > 1:
            raise TlsFailure(Alert.ILLEGAL_PARAMETER, "a KeyUpdate that asks for something else")
        self._key_updates += 1
        if self._read is None or self._write is None or self._key_updates > MAX_KEY_UPDATES:
            raise TlsFailure(Alert.UNEXPECTED_MESSAGE, "too many KeyUpdates")
        self._read = self._read.updated()
        if body[0]:
            self._put(_Content.HANDSHAKE, messages.message(Handshake.KEY_UPDATE, b"\x00"))
            self._write = self._write.updated()

    def _say(self, *said: bytes) -> None:
        """Send handshake messages, each in records of its own."""
        for message in said:
            self._transcript.update(message)
            for at in range(0, len(message), MAX_PLAINTEXT):
                self._put(_Content.HANDSHAKE, message[at : at + MAX_PLAINTEXT])

    def _change_cipher_spec(self, hello: ClientHello) -> None:
        if hello.session_id:  # a client that expects it, for old middleboxes
            self._outgoing += _CHANGE_CIPHER_SPEC


def _exchange(ephemeral: X25519PrivateKey, share: bytes) -> bytes:
    try:
        return ephemeral.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:  # the secret would be zeros, whoever chose the share
        raise TlsFailure(Alert.ILLEGAL_PARAMETER, "a degenerate share") from None
