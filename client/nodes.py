"""Which nodes exist now, and which of them deserve a prompt.

The list comes as one file, the same for everybody, through the relay's cache. The log's signature
and the witnesses' are checked over it, then every node's evidence is appraised under the client's
policy. Only what survives as a `VerifiedNode` can be encrypted to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from attestation.errors import AppraisalError
from attestation.verdict import Outcome, Step, Verdict
from attestation.verifier.node import ReferenceValues, VerifiedNode, appraise
from attestation.verifier.policy import ClientPolicy
from client.errors import NodeListError, NoNode
from client.files import write_private
from client.trust import Trust
from transparency.errors import TransparencyError
from transparency.leaf import (
    Body,
    IssuerKeyLeaf,
    ListedNode,
    ModelLeaf,
    PolicyLeaf,
    ReleaseLeaf,
)
from transparency.nodes_document import SeenCheckpoint, VerifiedNodes, verify_nodes_document

MAX_DOCUMENT = 64 << 20
"""Bytes of the largest node document read: a thousand nodes with 35 kB of evidence each."""

RETRIES = 12
RETRY_PAUSE_S = 0.5
"""A list is published ahead of its epoch, but clocks differ: ask again for a few seconds."""


@dataclass(frozen=True)
class RefusedNode:
    """A listed node that the policy or its evidence rules out, and why."""

    node: str
    verdict: Verdict


@dataclass(frozen=True)
class Appraisal:
    """Everything known about the nodes of one epoch."""

    listed: VerifiedNodes
    log_steps: tuple[Step, ...]
    """What was checked of the log, once for all nodes."""
    nodes: tuple[VerifiedNode, ...]
    refused: tuple[RefusedNode, ...]

    def serving(self, model: str) -> list[VerifiedNode]:
        """Return the verified nodes that serve `model`.

        Raises:
            NoNode: there is none; the message says whether nodes were refused.
        """
        found = [node for node in self.nodes if node.key_document.model == model]
        if not found:
            raise NoNode(
                f"no verified node serves this model ({len(self.nodes)} verified, "
                f"{len(self.refused)} refused by policy or evidence)"
            )
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """Return the nodes with their steps, verified ones first."""
        verified = [
            {
                "node": node.key_document.node,
                "model": node.key_document.model,
                "platform": node.platform,
                "verified": True,
                "steps": [step.to_json() for step in (*self.log_steps, *node.steps)],
            }
            for node in self.nodes
        ]
        refused = [
            {
                "node": refused.node,
                "verified": False,
                "steps": [step.to_json() for step in (*self.log_steps, *refused.verdict.steps)],
            }
            for refused in self.refused
        ]
        return [*verified, *refused]


class NodeDirectory:
    """Fetches, verifies and remembers the list of the current epoch."""

    def __init__(
        self,
        *,
        trust: Trust,
        policy: ClientPolicy,
        relay_url: str,
        http: httpx.AsyncClient,
        state: Path | None = None,
    ) -> None:
        self._trust = trust
        self._policy = policy
        self._url = relay_url.rstrip("/") + "/nodes"
        self._http = http
        self._state = state
        self._seen = self._load_seen()
        self._current: Appraisal | None = None
        self._fetching = asyncio.Lock()

    @property
    def known(self) -> Appraisal | None:
        """The last appraisal, even of an epoch gone by; for display only."""
        return self._current

    async def current(self) -> Appraisal:
        """Return the appraisal of the current epoch, fetching it if the known one is of another.

        Raises:
            NodeListError: the list cannot be had or does not verify.
        """
        if (known := self._fresh()) is not None:
            return known
        async with self._fetching:
            if (known := self._fresh()) is not None:
                return known
            return await self._refresh()

    async def issuer_keys(self) -> Sequence[IssuerKeyLeaf]:
        """Return the issuer keys that the log vouches for, of the trusted issuer only."""
        try:
            listed = (await self.current()).listed
        except NodeListError:
            return ()
        name = self._trust.issuer_name
        return [key for key in listed.issuer_keys if key.issuer_name == name]

    def _fresh(self) -> Appraisal | None:
        if self._current is None or self._current.listed.epoch != self._epoch():
            return None
        return self._current

    def _epoch(self) -> int:
        return int(time.time()) // self._trust.list_epoch_s

    async def _refresh(self) -> Appraisal:
        for attempt in range(RETRIES):
            try:
                self._current = self._appraise(await self._fetch())
            except NodeListError as error:
                # An older list is what a cache or a slow log shows at an epoch's edge; anything
                # else will not get better by asking again.
                if error.code not in {"stale_epoch", "unavailable"} or attempt == RETRIES - 1:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return self._current
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _fetch(self) -> bytes:
        try:
            async with self._http.stream("GET", self._url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise NodeListError(
                        f"the relay has no node list ({answer.status_code})", code="unavailable"
                    )
                document = b""
                async for part in answer.aiter_raw():
                    document += part
                    if len(document) > MAX_DOCUMENT:
                        raise NodeListError("the node list is too large")
                return document
        except httpx.HTTPError:
            raise NodeListError("the relay cannot be reached", code="unavailable") from None

    def _appraise(self, document: bytes) -> Appraisal:
        at = int(time.time())
        try:
            listed = verify_document(
                document, trust=self._trust, policy=self._policy, at=at, last=self._seen
            )
        except TransparencyError as error:
            raise NodeListError(f"the node list is refused: {error}", code=error.code) from error
        self._remember(listed)
        return appraise_all(listed, trust=self._trust, policy=self._policy, at=at)

    def _remember(self, listed: VerifiedNodes) -> None:
        self._seen = listed.seen
        if self._state is not None:
            write_private(self._state, self._seen.encode())

    def _load_seen(self) -> SeenCheckpoint | None:
        if self._state is None or not self._state.exists():
            return None
        return SeenCheckpoint.decode(self._state.read_bytes())


def verify_document(
    document: bytes,
    *,
    trust: Trust,
    policy: ClientPolicy,
    at: int,
    last: SeenCheckpoint | None = None,
) -> VerifiedNodes:
    """Verify a nodes document under the trust file, and the policy where that is the stricter.

    Raises:
        TransparencyError: as `verify_nodes_document` says.
    """
    log = trust.log_policy
    oldest = min(log.max_cosignature_age_s, policy.max_checkpoint_age_s)
    return verify_nodes_document(
        document,
        policy=replace(log, max_cosignature_age_s=oldest),
        roles=trust.roles,
        epoch_seconds=trust.list_epoch_s,
        at=at,
        last=last,
    )


def reference_of(listed: VerifiedNodes, trust: Trust) -> ReferenceValues:
    """Return what the evidence of the listed nodes is held against."""
    return reference_values(
        (*listed.releases, *listed.models, *listed.policies),
        key_documents=frozenset(row.key_document_digest for row in listed.nodes),
        trust=trust,
    )


def appraise_all(
    listed: VerifiedNodes, *, trust: Trust, policy: ClientPolicy, at: int
) -> Appraisal:
    """Appraise every listed node against what the log vouches for."""
    reference = reference_of(listed, trust)
    nodes: list[VerifiedNode] = []
    refused: list[RefusedNode] = []
    for row in listed.nodes:
        try:
            node = appraise(listed.bundles[row.node], policy=policy, reference=reference, at=at)
        except AppraisalError as error:
            refused.append(RefusedNode(row.node, error.verdict))
            continue
        if (contradiction := _contradiction(row, listed, node)) is None:
            nodes.append(node)
        else:
            refused.append(RefusedNode(row.node, Verdict((*node.steps, contradiction))))
    return Appraisal(listed, log_steps(listed, trust), tuple(nodes), tuple(refused))


def _contradiction(row: ListedNode, listed: VerifiedNodes, node: VerifiedNode) -> Step | None:
    """Return a failed step if the list says of a node what its key document does not."""
    document = node.key_document
    said = (row.model, row.capacity, listed.receipt_keys[row.key_document_digest])
    if said == (document.model, document.capacity, document.receipt_key):
        return None
    return Step("node-list-entry", Outcome.FAIL, "the list contradicts the node's key document")


def log_steps(listed: VerifiedNodes, trust: Trust) -> tuple[Step, ...]:
    """Say what `verify_nodes_document` has proven."""
    policy, size = trust.log_policy, listed.checkpoint.size
    return (
        Step(
            "log-checkpoint",
            Outcome.PASS,
            f"{trust.log_origin} at size {size}, signed by the log and cosigned by at least "
            f"{policy.quorum} of {len(policy.witness_keys)} witnesses",
        ),
        Step(
            "log-consistency",
            Outcome.PASS,
            "the log continues the tree last seen, or is seen for the first time",
        ),
        Step(
            "node-list",
            Outcome.PASS,
            f"the list of epoch {listed.epoch} with {len(listed.nodes)} node(s) is in the log",
        ),
    )


def reference_values(
    statements: Iterable[Body], *, key_documents: frozenset[bytes], trust: Trust
) -> ReferenceValues:
    """Turn logged statements and pinned roots into the values that evidence is compared with."""
    releases: dict[str, set[bytes]] = {}
    models: dict[str, set[bytes]] = {}
    policies: set[bytes] = set()
    for body in statements:
        if isinstance(body, ReleaseLeaf):
            for platform, measurement in body.measurements.items():
                releases.setdefault(platform, set()).add(measurement)
        elif isinstance(body, ModelLeaf):
            models.setdefault(body.name, set()).add(body.digest)
        elif isinstance(body, PolicyLeaf):
            policies.add(body.digest)
    return ReferenceValues(
        key_documents=key_documents,
        releases=_frozen(releases),
        models=_frozen(models),
        policies=frozenset(policies),
        roots=trust.roots,
        log_origin=trust.log_origin,
    )


def _frozen(sets: Mapping[str, set[bytes]]) -> dict[str, frozenset[bytes]]:
    return {name: frozenset(values) for name, values in sets.items()}
