"""TLS 1.3, judged by RFC 8448 and by OpenSSL as the peer; then everything that must be refused."""

import hashlib
import json
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from server.tls_certificate import new_key, self_signed
from wire.tls13 import MAX_EMPTY_RECORDS, MAX_KEY_UPDATES, Identity, ServerConnection
from wire.tls13_keys import KeySchedule, Protection, expand_label, finished
from wire.tls13_messages import (
    Alert,
    CipherSuite,
    Handshake,
    TlsFailure,
    message,
    parse_client_hello,
    to_be_signed,
)

VECTORS = {
    name: bytes.fromhex(value)
    for name, value in json.loads(
        (Path(__file__).parent / "vectors" / "rfc8448.json").read_text()
    ).items()
    if name != "source"
}
AES, CHACHA = CipherSuite.AES_128_GCM_SHA256, CipherSuite.CHACHA20_POLY1305_SHA256
KEY = new_key(os.urandom)
CERTIFICATE = self_signed(KEY, os.urandom, 1_800_000_000)


def sign(transcript_hash):
    return KEY.sign(to_be_signed(transcript_hash), ec.ECDSA(hashes.SHA256()))


def server(random=os.urandom):
    return ServerConnection(Identity(CERTIFICATE, sign), random)


def record(kind, content, version=0x0303):
    return bytes([kind]) + version.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


# ---- RFC 8448 ----


def test_the_key_schedule_is_that_of_rfc_8448():
    schedule = KeySchedule(VECTORS["shared_secret"])
    hello = hashlib.sha256(VECTORS["client_hello"] + VECTORS["server_hello"])
    assert hello.digest() == VECTORS["hash_to_server_hello"]
    assert schedule.handshake_secrets(hello.digest()) == (
        VECTORS["client_handshake_secret"],
        VECTORS["server_handshake_secret"],
    )
    hello.update(VECTORS["server_flight"])
    assert hello.digest() == VECTORS["hash_to_server_finished"]
    assert schedule.application_secrets(hello.digest()) == (
        VECTORS["client_application_secret"],
        VECTORS["server_application_secret"],
    )


def test_both_finished_are_those_of_rfc_8448():
    flight = VECTORS["client_hello"] + VECTORS["server_hello"] + VECTORS["server_flight"][:-36]
    before = hashlib.sha256(flight).digest()
    assert finished(VECTORS["server_handshake_secret"], before) == VECTORS["server_finished"]
    client = finished(VECTORS["client_handshake_secret"], VECTORS["hash_to_server_finished"])
    assert client == VECTORS["client_finished"]


def test_records_are_those_of_rfc_8448():
    sealed = Protection(AES, VECTORS["server_handshake_secret"]).seal(22, VECTORS["server_flight"])
    assert sealed == VECTORS["server_flight_record"]
    came = VECTORS["client_finished_record"]
    opened = Protection(AES, VECTORS["client_handshake_secret"]).open(came[:5], came[5:])
    assert opened == (22, message(Handshake.FINISHED, VECTORS["client_finished"]))


def test_the_server_hello_is_that_of_rfc_8448():
    answers = iter([VECTORS["server_private_key"], VECTORS["server_hello"][6:38]])
    connection = server(lambda _: next(answers))
    connection.receive(record(22, VECTORS["client_hello"], 0x0301))
    assert connection.to_send().startswith(record(22, VECTORS["server_hello"]))


# ---- OpenSSL as the peer ----


class Peer:
    """Python's ssl, in memory."""

    def __init__(self, **settings):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=x509_pem())
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_mode = settings.pop("verify_mode", ssl.CERT_NONE)
        for name, value in settings.items():
            getattr(context, name)(value)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    def handshake(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self):
        try:
            return self.tls.read(1 << 20)
        except ssl.SSLWantReadError:
            return b""


def x509_pem():
    return x509.load_der_x509_certificate(CERTIFICATE).public_bytes(Encoding.PEM).decode()


def joined(connection, peer, size=1 << 20):
    """Complete a handshake, what the client sends in pieces of `size`."""
    for _ in range(4):
        peer.handshake()
        data = peer.outgoing.read()
        for at in range(0, len(data), size):
            connection.receive(data[at : at + size])
            peer.incoming.write(connection.to_send())
    assert connection.established
    assert peer.handshake()
    return connection, peer


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1 << 20])
def test_openssl_completes_a_handshake_cut_anywhere_and_data_goes_both_ways(size):
    connection, peer = joined(server(), Peer(), size)
    assert peer.tls.version() == "TLSv1.3"
    assert peer.tls.getpeercert(binary_form=True) == CERTIFICATE
    question, answer = os.urandom(40_000), os.urandom(70_000)
    peer.tls.write(question)
    data = peer.outgoing.read()
    pieces = [connection.receive(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join(pieces) == question
    connection.send(answer)
    connection.close()
    peer.incoming.write(connection.to_send())
    received = b"".join(iter(lambda: peer.tls.read(1 << 20), b""))
    assert received == answer


def test_openssl_that_closes_is_noticed():
    connection, peer = joined(server(), Peer())
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    assert connection.receive(peer.outgoing.read()) == b""
    assert connection.closed


def test_openssl_gets_http_1_1_by_alpn_and_no_ticket():
    connection, peer = joined(server(), Peer(set_alpn_protocols=["h2", "http/1.1"]))
    assert peer.tls.selected_alpn_protocol() == "http/1.1"
    connection.send(b"x")
    peer.incoming.write(connection.to_send())
    assert peer.read() == b"x"
    assert not peer.tls.session_reused
    assert not peer.tls.session.has_ticket


def test_openssl_that_speaks_http_2_alone_is_refused():
    refuses(Peer(set_alpn_protocols=["h2"]), Alert.NO_APPLICATION_PROTOCOL)


def test_openssl_without_our_group_is_refused():
    refuses(Peer(set_ecdh_curve="prime256v1"), Alert.HANDSHAKE_FAILURE)


def refuses(peer, alert):
    connection = server()
    peer.handshake()
    with pytest.raises(TlsFailure) as failure:
        connection.receive(peer.outgoing.read())
    assert failure.value.alert is alert
    assert connection.to_send() == bytes([21, 3, 3, 0, 2, 2, alert])
    with pytest.raises(TlsFailure, match="before"):
        connection.receive(b"")


# ---- a client of our own, to say what OpenSSL does not ----


def u16(*numbers):
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def vector(data, size=2):
    return len(data).to_bytes(size, "big") + data


EPHEMERAL = X25519PrivateKey.from_private_bytes(bytes(range(32)))
SHARE = EPHEMERAL.public_key().public_bytes_raw()
EXTENSIONS = {
    10: vector(u16(29)),
    13: vector(u16(0x0403)),
    43: vector(u16(0x0304), 1),
    51: vector(u16(29) + vector(SHARE)),
}


def hello(
    extensions=None,
    *,
    version=0x0303,
    session=b"",
    suites=(0x1301,),
    compression=b"\0",
    random=bytes(32),
    tail=b"",
    **changed,
):
    extensions = EXTENSIONS if extensions is None else extensions
    extensions = {**extensions, **{int(name[1:]): value for name, value in changed.items()}}
    encoded = b"".join(
        u16(kind) + vector(value) for kind, value in extensions.items() if value is not None
    )
    head = u16(version) + random + vector(session, 1) + vector(u16(*suites))
    return head + vector(compression, 1) + vector(encoded + tail)


class Client:
    """The client's side, as far as tests need it."""

    def __init__(self, suite=AES, **settings):
        self.server = server()
        self.sent = message(Handshake.CLIENT_HELLO, hello(suites=(suite,), **settings))
        self.server.receive(record(22, self.sent, 0x0301))
        self.came = self.server.to_send()
        self._read_flight(suite)

    def _read_flight(self, suite):
        records = list(cut(self.came))
        server_hello = records[0][1]
        rest = [pair for pair in records[1:] if pair[0][0] != 20]
        shared = EPHEMERAL.exchange(X25519PublicKey.from_public_bytes(server_hello[-38:-6]))
        schedule = KeySchedule(shared)
        transcript = hashlib.sha256(self.sent + server_hello)
        self.client, self.theirs = schedule.handshake_secrets(transcript.digest())
        opening = Protection(suite, self.theirs)
        for header, body in rest:
            kind, content = opening.open(header, body)
            assert kind == 22
            transcript.update(content)
        self.hash = transcript.digest()
        self.write = Protection(suite, self.client)
        ours, theirs = schedule.application_secrets(self.hash)
        self.later, self.read = Protection(suite, ours), Protection(suite, theirs)

    def finished(self):
        return message(Handshake.FINISHED, finished(self.client, self.hash))

    def established(self):
        self.server.receive(self.write.seal(22, self.finished()))
        assert self.server.established
        self.write = self.later
        return self

    def refused(self, data, alert):
        with pytest.raises(TlsFailure) as failure:
            self.server.receive(data)
        assert failure.value.alert == alert
        if alert is not None:
            (pair,) = cut(self.server.to_send())
            assert self.read.open(*pair) == (21, bytes([2, alert]))


def cut(data):
    while data:
        end = 5 + int.from_bytes(data[3:5], "big")
        yield data[:5], data[5:end]
        data = data[end:]


@pytest.mark.parametrize("suite", list(CipherSuite))
def test_data_goes_both_ways_in_every_suite(suite):
    client = Client(suite).established()
    assert client.server.receive(client.write.seal(23, b"question")) == b"question"
    client.server.send(b"answer")
    (pair,) = cut(client.server.to_send())
    assert client.read.open(*pair) == (23, b"answer")


def test_a_session_id_is_echoed_and_a_change_cipher_spec_follows():
    client = Client(session=b"s" * 32)
    kinds = [header[0] for header, _ in cut(client.came)]
    assert kinds[:2] == [22, 20]
    assert b"s" * 32 in client.came
    client.server.receive(record(20, b"\1"))
    client.established()


def test_what_the_keeper_signs_verifies_under_the_certificate():
    client = Client()
    client.established()
    seen = []
    connection = ServerConnection(
        Identity(CERTIFICATE, lambda digest: seen.append(digest) or sign(digest)), os.urandom
    )
    connection.receive(record(22, message(1, hello())))
    assert [len(digest) for digest in seen] == [32]
    with pytest.raises(ValueError, match="32 bytes"):
        to_be_signed(b"x" * 33)


def retried():
    connection = server()
    first = message(1, hello(_51=vector(b"")))
    connection.receive(record(22, first))
    return connection, connection.to_send()


def test_a_client_without_a_share_is_asked_for_one():
    connection, retry = retried()
    (pair,) = cut(retry)
    assert pair[1][6:38] == hashlib.sha256(b"HelloRetryRequest").digest()
    connection.receive(record(22, message(1, hello())))
    assert connection.to_send()


@pytest.mark.parametrize(
    "second",
    [
        {"_51": vector(b"")},
        {"random": b"r" * 32},
        {"session": b"s"},
        {"suites": (0x1303,)},
        {"_16": vector(vector(b"http/1.1", 1))},
    ],
)
def test_a_second_hello_that_is_another_is_refused(second):
    connection, _ = retried()
    with pytest.raises(TlsFailure) as failure:
        connection.receive(record(22, message(1, hello(**second))))
    assert failure.value.alert is Alert.ILLEGAL_PARAMETER


def test_a_retry_with_a_session_sends_one_change_cipher_spec():
    connection = server()
    connection.receive(record(22, message(1, hello(session=b"s", _51=vector(b"")))))
    assert [header[0] for header, _ in cut(connection.to_send())] == [22, 20]
    connection.receive(record(20, b"\1") + record(22, message(1, hello(session=b"s"))))
    assert 20 not in [header[0] for header, _ in cut(connection.to_send())]


SHARE_ENTRY = u16(29) + vector(SHARE)


@pytest.mark.parametrize(
    ("body", "alert"),
    [
        (hello(version=0x0302), Alert.PROTOCOL_VERSION),
        (hello(_43=None), Alert.PROTOCOL_VERSION),
        (hello(_43=vector(u16(0x0303), 1)), Alert.PROTOCOL_VERSION),
        (hello()[:41], Alert.PROTOCOL_VERSION),
        (hello(compression=b"\1\0"), Alert.ILLEGAL_PARAMETER),
        (hello(compression=b""), Alert.DECODE_ERROR),
        (hello(suites=(0x1302,)), Alert.HANDSHAKE_FAILURE),
        (hello(suites=()), Alert.DECODE_ERROR),
        (hello(session=b"s" * 33), Alert.DECODE_ERROR),
        (hello(_13=None), Alert.MISSING_EXTENSION),
        (hello(_13=vector(u16(0x0804))), Alert.HANDSHAKE_FAILURE),
        (hello(_13=vector(b"\4\3\4")), Alert.DECODE_ERROR),
        (hello(_13=vector(u16(0x0403)) + b"x"), Alert.DECODE_ERROR),
        (hello(_10=None), Alert.MISSING_EXTENSION),
        (hello(_51=None), Alert.MISSING_EXTENSION),
        (hello(_10=vector(u16(23)), _51=vector(b"")), Alert.HANDSHAKE_FAILURE),
        (hello(_10=vector(u16(23))), Alert.ILLEGAL_PARAMETER),
        (hello(_51=vector(SHARE_ENTRY + SHARE_ENTRY)), Alert.ILLEGAL_PARAMETER),
        (hello(_51=vector(u16(29) + vector(SHARE[:31]))), Alert.ILLEGAL_PARAMETER),
        (hello(_51=vector(u16(29) + vector(b""))), Alert.DECODE_ERROR),
        (hello(_51=vector(u16(29) + vector(bytes(32)))), Alert.ILLEGAL_PARAMETER),
        (hello(_42=b""), Alert.ILLEGAL_PARAMETER),
        (hello(tail=u16(10, 0)), Alert.ILLEGAL_PARAMETER),
        (hello(_41=b"", _99=b""), Alert.ILLEGAL_PARAMETER),
        (hello(_16=vector(vector(b"h2", 1))), Alert.NO_APPLICATION_PROTOCOL),
        (hello(_16=vector(vector(b"", 1) * 2)), Alert.DECODE_ERROR),
        (hello() + b"x", Alert.DECODE_ERROR),
        (hello()[:-1], Alert.DECODE_ERROR),
    ],
)
def test_a_hello_that_may_not_be_is_refused_with_its_alert(body, alert):
    connection = server()
    with pytest.raises(TlsFailure) as failure:
        connection.receive(record(22, message(1, body)))
    assert failure.value.alert is alert
    assert connection.to_send() == bytes([21, 3, 3, 0, 2, 2, alert])
    assert not connection.established


def test_an_offered_session_is_not_taken_up():
    assert parse_client_hello(hello(_45=b"\1\1", _41=b"whatever")).share == SHARE


@pytest.mark.parametrize(
    ("data", "alert"),
    [
        (b"GET / HTTP/1.1\r\n", Alert.UNEXPECTED_MESSAGE),
        (b"\x16\x02", Alert.PROTOCOL_VERSION),
        (record(22, b""), Alert.UNEXPECTED_MESSAGE),
        (record(22, b"\2\0\0\0"), Alert.UNEXPECTED_MESSAGE),
        (record(22, b"\1\0\x50\0"), Alert.DECODE_ERROR),
        (b"\x16\x03\x03\x40\x01", Alert.RECORD_OVERFLOW),
        (record(20, b"\1"), Alert.UNEXPECTED_MESSAGE),
        (record(23, b"x" * 30), Alert.UNEXPECTED_MESSAGE),
        (record(21, b"\2"), Alert.DECODE_ERROR),
        (record(21, b"\2\x28"), None),
        (record(21, b"\1\0"), None),
        (record(22, message(1, hello()) + b"\x14"), Alert.UNEXPECTED_MESSAGE),
    ],
)
def test_a_beginning_that_is_none_is_refused(data, alert):
    connection = server()
    with pytest.raises(TlsFailure) as failure:
        connection.receive(data)
    assert failure.value.alert is alert
    assert bool(connection.to_send()) == (alert is not None)


def test_a_hello_in_records_of_one_byte_is_taken():
    connection = server()
    for byte in message(1, hello()):
        connection.receive(record(22, bytes([byte])))
    assert connection.to_send()


@pytest.mark.parametrize(
    ("kind", "content", "alert"),
    [
        (22, message(20, bytes(32)), Alert.DECRYPT_ERROR),
        (22, message(20, bytes(31)), Alert.DECODE_ERROR),
        (22, message(20, bytes(33)), Alert.DECODE_ERROR),
        (22, message(24, b"\0"), Alert.UNEXPECTED_MESSAGE),
        (23, b"early", Alert.UNEXPECTED_MESSAGE),
        (20, b"\1", Alert.UNEXPECTED_MESSAGE),
        (0, b"", Alert.UNEXPECTED_MESSAGE),
        (21, b"\2\x2a", None),
    ],
)
def test_what_is_not_the_finished_is_refused(kind, content, alert):
    client = Client()
    client.refused(client.write.seal(kind, content), alert)


@pytest.mark.parametrize(
    ("data", "alert"),
    [
        (record(22, b"\x14\0\0\x20"), Alert.UNEXPECTED_MESSAGE),
        (record(23, bytes(40)), Alert.BAD_RECORD_MAC),
        (record(23, b""), Alert.BAD_RECORD_MAC),
        (record(20, b"\1") * 3, Alert.UNEXPECTED_MESSAGE),
        (record(20, b"\2"), Alert.UNEXPECTED_MESSAGE),
        (b"\x17\x03\x03\x41\x01", Alert.RECORD_OVERFLOW),
    ],
)
def test_records_that_may_not_come_before_the_finished_are_refused(data, alert):
    Client().refused(data, alert)


@pytest.mark.parametrize(
    ("kind", "content", "alert"),
    [
        (22, message(24, b"\2"), Alert.ILLEGAL_PARAMETER),
        (22, message(24, b""), Alert.DECODE_ERROR),
        (22, message(24, b"\0") * 2, Alert.UNEXPECTED_MESSAGE),
        (22, message(1, hello()), Alert.UNEXPECTED_MESSAGE),
        (22, message(11, b""), Alert.UNEXPECTED_MESSAGE),
        (21, b"\1", Alert.DECODE_ERROR),
        (21, b"\2\x50", None),
        (20, b"\1", Alert.UNEXPECTED_MESSAGE),
    ],
)
def test_what_may_not_come_after_the_finished_is_refused(kind, content, alert):
    client = Client().established()
    client.refused(client.write.seal(kind, content), alert)


def test_records_in_clear_after_the_finished_are_refused():
    for data in (record(20, b"\1"), record(21, b"\1\0"), record(22, message(24, b"\0"))):
        Client().established().refused(data, Alert.UNEXPECTED_MESSAGE)


def test_a_handshake_message_is_not_interrupted():
    client = Client().established()
    update = message(24, b"\0")
    client.server.receive(client.write.seal(22, update[:2]))
    client.refused(client.write.seal(23, b"x"), Alert.UNEXPECTED_MESSAGE)


def test_a_changed_repeated_or_reordered_record_is_refused():
    for spoil in (
        lambda one, _: one[:-1] + bytes([one[-1] ^ 1]),
        lambda one, _: b"\x17\x03\x01" + one[3:],
        lambda one, _: one + one,
        lambda one, two: two + one,
    ):
        client = Client().established()
        data = spoil(client.write.seal(23, b"one"), client.write.seal(23, b"two"))
        client.refused(data, Alert.BAD_RECORD_MAC)


@pytest.mark.parametrize("asks", [0, 1])
def test_keys_are_updated(asks):
    client = Client().established()
    client.server.receive(client.write.seal(22, message(24, bytes([asks]))))
    client.write = client.write.updated()
    if asks:
        (pair,) = cut(client.server.to_send())
        assert client.read.open(*pair) == (22, message(24, b"\0"))
        client.read = client.read.updated()
    assert client.server.receive(client.write.seal(23, b"more")) == b"more"
    client.server.send(b"answer")
    (pair,) = cut(client.server.to_send())
    assert client.read.open(*pair) == (23, b"answer")
    updated = expand_label(client.later.secret, b"traffic upd", b"", 32)
    assert client.write.secret == updated


def test_updates_and_empty_records_are_counted():
    client = Client().established()
    for _ in range(MAX_KEY_UPDATES):
        client.server.receive(client.write.seal(22, message(24, b"\0")))
        client.write = client.write.updated()
    client.refused(client.write.seal(22, message(24, b"\0")), Alert.UNEXPECTED_MESSAGE)
    client = Client().established()
    client.server.receive(b"".join(client.write.seal(23, b"") for _ in range(MAX_EMPTY_RECORDS)))
    client.refused(client.write.seal(23, b""), Alert.UNEXPECTED_MESSAGE)


def test_padding_is_taken_off_and_a_record_too_long_is_refused():
    client = Client().established()
    padded = client.write.seal(0, b"x\x17" + bytes(50))  # content, its type, zeros
    assert client.server.receive(padded) == b"x"
    client.refused(client.write.seal(23, bytes(2**14 + 1)), Alert.RECORD_OVERFLOW)


def test_user_canceled_is_passed_over_and_nothing_after_the_close_is_read():
    client = Client().established()
    data = client.write.seal(21, b"\1\x5a") + client.write.seal(21, b"\1\0")
    assert client.server.receive(data + client.write.seal(23, b"late")) == b""
    assert client.server.closed
    client.server.send(b"still")
    assert client.server.to_send()


def test_nothing_is_sent_without_a_handshake_and_nothing_after_an_abort():
    connection = server()
    with pytest.raises(ValueError, match="no established"):
        connection.send(b"x")
    connection.abort()
    assert connection.to_send() == bytes([21, 3, 3, 0, 2, 2, 80])
    connection.abort()
    connection.close()
    assert connection.to_send() == b""


def test_a_key_has_its_last_record():
    protection = Protection(AES, bytes(32))
    protection._counter = 2**24
    with pytest.raises(TlsFailure) as failure:
        protection.seal(23, b"")
    assert failure.value.alert is Alert.INTERNAL_ERROR
    with pytest.raises(ValueError, match="one block"):
        expand_label(bytes(32), b"x", b"", 33)
