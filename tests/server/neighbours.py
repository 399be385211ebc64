"""The parties around a worker, on threads: an issuer's directory, a log, a spent-token store."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from attestation.bundle import Bundle
from tests.server import wallet
from transparency.leaf import Leaf, NodeLeaf, RoleKeys
from wire import cbor
from wire.key_document import KeyDocument


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, members: Any) -> None:
        body = json.dumps(members).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"]))


class _Served:
    server: socketserver.BaseServer

    def __enter__(self) -> Self:
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}"


class FakeIssuer(_Served):
    """The directory, of whichever keys there are now."""

    def __init__(self) -> None:
        self.keys = [wallet.spki()]
        self.down = False
        outer = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                if outer.down:
                    self.answer(503, {})
                    return
                keys = [
                    {"token-type": 2, "token-key": base64.urlsafe_b64encode(key).decode()}
                    for key in outer.keys
                ]
                self.answer(200, {"issuer-request-uri": "/token-request", "token-keys": keys})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


NOTE = "log.invalid\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— log.invalid AAAAAAAA\n"


class FakeLog(_Served):
    """Takes every node leaf that its own key signed, unless it is down."""

    def __init__(self) -> None:
        self.down = False
        self.leaves: list[Leaf] = []
        self.documents: list[KeyDocument] = []
        self.bundles: list[bytes] = []
        outer = self

        class Handler(_Handler):
            def do_POST(self) -> None:
                members = cbor.decode(self.body())
                if outer.down:
                    self.answer(503, {"error": {"code": "unavailable", "message": ""}})
                    return
                if self.path == "/alive":
                    outer.see(Leaf.decode(members["leaf"]))
                    self.answer(200, {})
                    return
                outer.add(Leaf.decode(members["leaf"]), members["attachment"])
                proof = f"c2sp.org/tlog-proof@v1\nindex {len(outer.leaves)}\n\n{NOTE}"
                self.answer(200, {"index": len(outer.leaves), "proof": proof})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def add(self, leaf: Leaf, attachment: bytes) -> None:
        body = leaf.verify(RoleKeys(b"r" * 32, b"i" * 32, b"l" * 32))
        document = KeyDocument.decode(Bundle.decode(attachment).key_document)
        assert isinstance(body, NodeLeaf)
        assert body.key_document_digest == document.digest
        assert body.bundle_digest == wallet.digest(attachment)
        assert body.not_after == document.not_after
        assert leaf.key == document.receipt_key
        self.leaves.append(leaf)
        self.documents.append(document)
        self.bundles.append(attachment)

    def see(self, sign: Leaf) -> None:
        sign.verify_signature()
        assert sign.key in {leaf.key for leaf in self.leaves}


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A worker that gave up waiting is no error."""


class FakeSpentStore(_Served):
    """Spends in memory; `mode` is "ok", "down" or "silent"."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mode = "ok"
        self.rows: set[str] = set()
        self.orders: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            def address_string(self) -> str:
                return "unix"

            def do_POST(self) -> None:
                self.answer(*outer.spend(json.loads(self.body())))

        self.server = _UnixServer(str(path), Handler)

    def spend(self, order: dict[str, Any]) -> tuple[int, Any]:
        if self.mode == "silent":
            time.sleep(2)
        with self.lock:
            self.orders.append(order)
            if self.mode != "ok":
                return 503, {"error": {"code": "unavailable"}}
            if self.rows & set(order["rows"]):
                return 409, {"error": {"code": "spent"}}
            self.rows |= set(order["rows"])
            return 200, {}
