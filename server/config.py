"""Everything a worker is told, read once at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config import EngineConfig
from wire.inner import DATE_WINDOW_S
from wire.key_document import DEFAULT_TOKEN_BUDGET

if TYPE_CHECKING:
    from attestation.verifier.policy import ClientPolicy  # the roles that read this do without it

MAX_LIFETIME_S = 6 * 3600 - 60
"""Longest life of a key document (`wire.key_document`), whose not-before is rounded down."""


@dataclass(frozen=True)
class OwnAppraisal:
    """What a worker holds its own evidence against, before anybody else does.

    Attributes:
        policy: what is demanded.
        roots: for each platform, the fingerprints of its roots.
        log_origin: the origin of the log it wants to be in.
    """

    policy: ClientPolicy
    roots: Mapping[str, frozenset[bytes]]
    log_origin: str


@dataclass(frozen=True)
class DirectPort:
    """The port for plain HTTPS clients, whose TLS ends inside a capsule.

    Attributes:
        port: on the worker's own address.
        keys: SHA-256 of each API key. The keys are random, so a plain hash tells nobody anything.
        pool: idle capsules kept ready for it.
        max_capsules: connections at once; further ones wait a little, then are closed.
        max_requests: requests admitted at once; beyond it the answer is 503.
        handshake_timeout_s: for the handshake and the head of a request, together.

    Raises:
        ValueError: no key, something that is no hash, or a limit below one.
    """

    port: int
    keys: tuple[bytes, ...]
    pool: int = 2
    max_capsules: int = 32
    max_requests: int = 8
    handshake_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) != 32 for key in self.keys):
            raise ValueError("the direct port needs the SHA-256 of at least one API key")
        if min(self.pool, self.max_capsules, self.max_requests) < 1:
            raise ValueError("limits are at least one")


UPSTREAM_KINDS = ("vllm", "sglang", "openai")
"""The engines that can compute in our engine's place (`server.upstream_dialect`)."""


@dataclass(frozen=True)
class Upstream:
    """An engine of somebody else's, run beside the worker inside the same TEE.

    Attributes:
        url: `http://127.0.0.1:PORT`, or `unix:/path/of/socket`.
        kind: one of UPSTREAM_KINDS.
        model: what it calls the model.

    Raises:
        ValueError: a kind that is not known.
    """

    url: str
    kind: str
    model: str

    def __post_init__(self) -> None:
        if self.kind not in UPSTREAM_KINDS:
            raise ValueError(f"an upstream engine is one of {', '.join(UPSTREAM_KINDS)}")


@dataclass(frozen=True)
class WorkerConfig:
    """One worker: where it listens, what it serves, whom it asks, and its limits.

    `first_key_id` and `key_ids` give this worker its range of OHTTP key ids (one byte; two for
    each generation), so that a relay can route a stock client on the id alone. `created` and the
    rest of the answer's numbers come from the clock of the worker.

    Raises:
        ValueError: numbers that contradict each other.
    """

    model: Path
    model_name: str
    engine: EngineConfig
    host: str
    port: int
    log_url: str
    issuer_url: str
    issuer_name: str
    spent_socket: Path
    platform: str = "simulated"
    """A platform's name, or `auto`: what the machine is. Never simulated unless by its name."""
    platform_seed: Path | None = None
    platform_endorsement: Path | None = None
    """What endorses the hardware's report of `azure-vtpm`: its VCEK (DER), or a TDX quote."""
    collateral: Path | None = None
    """Folder of fetched collateral: a file for each part, under the part's name."""
    appraisal: OwnAppraisal | None = None
    """Under what the worker's own evidence must verify before it starts; None: it is not asked."""
    capacity: int = 1
    upstream: Upstream | None = None
    """What computes in the place of our engine; None: our engine does."""
    token_budget: int = DEFAULT_TOKEN_BUDGET
    """Prompt plus completion tokens that one blind token pays for; the key document says so."""

    list_epoch_s: int = 600
    rotation_s: int = 3600
    """How long after one generation of keys the next is made."""
    lead_s: int = 1200
    """How long a generation is still shown to be alive once its successor is listed."""
    lifetime_s: int = MAX_LIFETIME_S
    """Not-after minus not-before of a key document: how long the log may be away."""
    first_key_id: int = 0
    key_ids: int = 16

    pool: int = 4
    """Idle capsules kept ready."""
    max_capsules: int = 64
    """Capsules in use at once; beyond it the front answers 503 in clear."""
    max_requests: int = 32
    """Requests admitted at once; beyond it a capsule answers an authenticated busy."""
    max_quotes: int = 4
    """Fresh quotes asked for at once; beyond it a capsule answers an authenticated busy."""
    quote_pause_s: float = 1.0
    """Between two fresh quotes: for the platform is slow, and the launcher has other work."""
    max_marks: int = 262_144
    """Requests remembered against replay (about 150 bytes each)."""
    max_body: int = 17 * 1024 * 1024
    """Bytes of an encapsulated request: the largest class (16 MiB) and its framing."""
    body_timeout_s: float = 30.0
    spent_timeout_s: float = 2.0
    """For one of two tries. A row is inserted in milliseconds; the client waits meanwhile."""
    issuer_refresh_s: float = 300.0
    event_tick_ms: int = 0
    """Milliseconds from one event of a stream to the next; 0 lets each leave when it is ready."""
    metrics_period_s: float = 60.0
    """How often what `/metrics` says changes."""
    direct: DirectPort | None = None
    """None: no direct port, and the key document says so."""
    start_timeout_s: float = 900.0
    """How long the engine may take to load its model."""

    @property
    def grace_s(self) -> int:
        """How long after its not-after a generation is still opened.

        The last list that names it ends within one epoch, and a request made then may be dated
        and accepted until the Date window has passed.
        """
        return self.list_epoch_s + DATE_WINDOW_S

    @property
    def retired_grace_s(self) -> int:
        """How long after its last sign of life a generation is still opened.

        The log lists a node for whom it saw a sign of life within an epoch, up to half a minute
        before the epoch that the list is for.
        """
        return 2 * self.list_epoch_s + 30 + DATE_WINDOW_S

    def __post_init__(self) -> None:
        if not 0 < self.lead_s < self.rotation_s <= self.lifetime_s - self.lead_s:
            raise ValueError("0 < lead_s < rotation_s, and together at most lifetime_s")
        if self.lifetime_s > MAX_LIFETIME_S:
            raise ValueError("a key document lives for six hours at most")
        live = (self.lifetime_s + self.grace_s) // self.rotation_s + 2
        if self.key_ids < 2 * live or not 0 <= self.first_key_id <= 256 - self.key_ids:
            raise ValueError("a range of one-byte key ids, two for each generation alive at once")
        limits = (self.pool, self.max_capsules, self.max_requests, self.max_marks, self.max_quotes)
        if min(limits) < 1:
            raise ValueError("limits are at least one")
        if self.event_tick_ms < 0 or self.metrics_period_s <= 0:
            raise ValueError("a tick takes time, and so does a period")
