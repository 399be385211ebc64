"""What a relay is told when it starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from relay.addresses import Limited
from relay.errors import BadConfig


@dataclass(frozen=True)
class RelayConfig:
    """Where the relay listens, whom it forwards to, and how long it waits.

    Clear HTTP is for loopback only, in both directions: anywhere else an observer of the network
    would see which client talks to which node.

    Args:
        host: address to listen on.
        port: port to listen on.
        worker_urls: base URLs of the workers. Which nodes they are, the relay asks them.
        log_url: base URL of the transparency log whose documents the relay caches.
        certificate: PEM chain of the relay. With `private_key`, the relay speaks HTTPS.
        private_key: PEM private key of the certificate.
        authorities: PEM certificates that workers' and log's are checked against; without it, the
            system's.
        batch_s: what crosses waits for the next tick of a clock with this period, and crosses in
            random order (`relay.batches`). 0: at once.
        poll_interval_s: how often workers are asked. A new key document is listed 20 minutes
            ahead, so a second is only felt when a worker starts.
        head_timeout_s: how long a client may take over a header section. It is a few hundred
            bytes, one packet; ten seconds forgive two retransmissions on a poor line.
        body_timeout_s: how long a client may take over its whole request. 16 MiB in a minute is
            2 Mbit/s; a usual request is a few KiB.
        worker_timeout_s: how long a worker may be silent. A completion that is not streamed is
            silent until it is finished.
        unread_timeout_s: how long a client may leave an answer unread once 64 KiB of it wait. The
            worker is held up meanwhile. Whoever reads a KiB a second is fast enough.
        stock_ohttp: also serve clients that know Oblivious HTTP and nothing of ours
            (`relay.stock`). They have no protection from the relay itself.
        drain_timeout_s: how long running requests may go on after a SIGTERM.
        requests_per_s: how many requests an address may make in the long run. A person makes one
            in many seconds and one more for the node list; this serves an office behind one
            address, or twenty programs that never rest.
        burst: how many it may make at once: what an office makes when the network comes back.
        connections_per_address: how many connections it may have at once. Every stream is one. An
            eighth of all (`relay.app.MAX_CONNECTIONS`): eight addresses together, not one, could
            take every place.
        unlimited: networks whose addresses are not limited. Behind loopback is this machine's own
            user, or a proxy that must do the limiting, as it alone sees the addresses.

    Raises:
        BadConfig: clear HTTP beyond loopback, half a certificate, not a base URL, not a network,
            or a limit below one.
    """

    host: str
    port: int
    worker_urls: tuple[str, ...]
    log_url: str
    certificate: Path | None = None
    private_key: Path | None = None
    authorities: Path | None = None
    stock_ohttp: bool = False
    batch_s: float = 0.0
    poll_interval_s: float = 1.0
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    worker_timeout_s: float = 600.0
    unread_timeout_s: float = 60.0
    drain_timeout_s: int = 30
    requests_per_s: float = 20.0
    burst: int = 200
    connections_per_address: int = 512
    unlimited: tuple[str, ...] = ("127.0.0.0/8", "::1/128")

    def __post_init__(self) -> None:
        for url in (*self.worker_urls, self.log_url):
            _check_url(url)
        if (self.certificate is None) != (self.private_key is None):
            raise BadConfig("a certificate and its private key come together")
        if self.certificate is None and not _is_loopback(self.host):
            raise BadConfig("beyond loopback the relay needs a certificate")
        if min(self.requests_per_s, self.burst, self.connections_per_address) < 1:
            raise BadConfig("an address may make one request a second at least")
        try:
            Limited(self.unlimited)
        except ValueError:
            raise BadConfig("an unlimited network is written as CIDR") from None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadConfig("a worker or log is an http or https base URL")
    if parts.username or parts.query or parts.fragment or url.endswith("/"):
        raise BadConfig("a base URL has no user, query, fragment or final slash")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise BadConfig("beyond loopback workers and log are reached by https")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
