"""Which key a direct port must show: the command line's form of it, and a context that pins it."""

import hashlib
import os
import socket
import threading
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from client.direct import WrongPin, pin_of, pinned_context
from server.tls_certificate import new_key, self_signed, tls_key
from tests.fuzz.wire_targets import key_document
from wire.tls13 import Identity, ServerConnection
from wire.tls13_messages import to_be_signed

DOCUMENT = key_document()
PIN = "sha256//b+7MjBbFVR2f6z61934tp3O/aL2e+cUpJ86yyG5WiSs="


def serve(listener, key, certificate):
    identity = Identity(
        certificate, lambda digest: key.sign(to_be_signed(digest), ec.ECDSA(hashes.SHA256()))
    )
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        connection = ServerConnection(identity, os.urandom)
        with sock:
            while not connection.established and (data := sock.recv(65536)):
                connection.receive(data)
                sock.sendall(connection.to_send())
            if connection.established:
                connection.send(b"hello")
                connection.close()
                sock.sendall(connection.to_send())


@pytest.fixture
def port():
    key = new_key(os.urandom)
    certificate = self_signed(key, os.urandom, int(time.time()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, key, certificate), daemon=True).start()
        yield listener.getsockname()[1], tls_key(certificate)


def test_the_pin_is_that_of_the_document():
    digest = hashlib.sha256(b"spki").digest()
    assert pin_of(replace(DOCUMENT, tls_key=None)) is None
    assert pin_of(replace(DOCUMENT, tls_key=digest)) == PIN


def test_a_context_joins_the_port_whose_key_was_pinned(port):
    address, pinned = ("127.0.0.1", port[0]), port[1]
    context = pinned_context(*address, pinned)
    with (
        socket.create_connection(address, timeout=10) as raw,
        context.wrap_socket(raw) as client,
    ):
        assert client.recv(10) == b"hello"


def test_another_key_is_refused(port):
    with pytest.raises(WrongPin):
        pinned_context("127.0.0.1", port[0], bytes(32))
