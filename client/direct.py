"""The direct mode, seen from a client: which key a node's direct port must show.

No authority vouches for the port's certificate. The key document names its key, and only what was
appraised says that the document is a node's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.errors import ClientError
from wire.key_document import KeyDocument

CONNECT_TIMEOUT_S = 10.0


class WrongPin(ClientError):
    """The port shows another key than the node's."""


def pin_of(document: KeyDocument) -> str | None:
    """Return the key as `curl --pinnedpubkey` takes it; None for a node without a direct port."""
    if document.tls_key is None:
        return None
    return f"sha256//{base64.b64encode(document.tls_key).decode()}"


def pinned_context(host: str, port: int, tls_key: bytes) -> ssl.SSLContext:
    """Return a TLS context that trusts one certificate: the one that shows the key of the node.

    It is fetched from the port and compared with `tls_key` (SHA-256 of its SubjectPublicKeyInfo);
    every later handshake must prove that key. For any HTTP client: `httpx.Client(verify=context)`.

    Raises:
        WrongPin: the port shows another key.
        OSError: it cannot be reached, or does not speak TLS 1.3.
    """
    certificate = _fetch(host, port)
    public = x509.load_der_x509_certificate(certificate).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not hmac.compare_digest(hashlib.sha256(spki).digest(), tls_key):
        raise WrongPin("the direct port shows another key than the node's")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is pinned, whatever its name
    context.load_verify_locations(cadata=certificate)
    return context


def _fetch(host: str, port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent before the key was compared
    with (
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as raw,
        context.wrap_socket(raw) as client,
    ):
        certificate = client.getpeercert(binary_form=True)
    return certificate or b""
