"""A TCP forwarder between two real processes that writes down, or spoils, what crosses it."""

import contextlib
import socket
import threading


class Tap:
    """Listens on a free port and forwards to `port`; `bytes` holds everything, both ways.

    `connections` holds, for each, what came and what went back.

    `spoil(data)` may change what comes back; returning None cuts the connection there.
    """

    def __init__(self, port, spoil=None):
        self._target = ("127.0.0.1", port)
        self._spoil = spoil
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests = []
        self.responses = []
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self):
        return self._listener.getsockname()[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def bytes(self):
        return b"".join(self.requests) + b"".join(self.responses)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()  # the target is down: so is the way to it
                continue
            came, went = [], []
            self.connections.append((came, went))
            for source, sink, records, spoil in (
                (near, far, (self.requests, came), None),
                (far, near, (self.responses, went), self._spoil),
            ):
                threading.Thread(
                    target=self._pump, args=(source, sink, records, spoil), daemon=True
                ).start()

    @staticmethod
    def _pump(source, sink, records, spoil):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                for record in records:
                    record.append(data)
                if spoil is not None and (data := spoil(data)) is None:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
