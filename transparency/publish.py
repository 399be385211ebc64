"""Adding a leaf to a log: for workers, the issuer, and whoever publishes a release."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from transparency.errors import LeafRefused, LogUnavailable, Malformed
from transparency.leaf import Leaf
from transparency.proof import LogProof
from wire import cbor

ADD_TYPE = "application/cbor"


@dataclass(frozen=True)
class AddedLeaf:
    """Where the log put a leaf, and the proof of it (a c2sp.org/tlog-proof text, unverified)."""

    index: int
    proof: str


def add_leaf(
    log_url: str, leaf: Leaf, attachment: bytes = b"", *, timeout: float = 10.0
) -> AddedLeaf:
    """Add one leaf and wait until a cosigned checkpoint covers it. Adding twice is harmless.

    `attachment` is a node leaf's bundle and empty for every other leaf. The proof comes from the
    log as it is; whoever relies on it verifies it under a `LogPolicy`.

    Raises:
        LeafRefused: the log will not take this leaf.
        LogUnavailable: no connection, no quorum of witnesses, or an answer that is none. The leaf
            may be in the log all the same: try again with the identical leaf.
    """
    members = {"leaf": leaf.encode(), "attachment": attachment}
    return _added(_post(f"{log_url.rstrip('/')}/add", members, timeout))


def show_alive(log_url: str, sign: Leaf, *, timeout: float = 10.0) -> None:
    """Give a listed node's sign of life: its leaf, signed anew with an early not-after.

    The log counts it as given one list epoch before that not-after, and does not log it.

    Raises:
        LeafRefused: the log does not know the node, or not under this key and bundle.
        LogUnavailable: no connection, or an answer that is none. Try again.
    """
    _post(f"{log_url.rstrip('/')}/alive", {"leaf": sign.encode()}, timeout)


def _post(url: str, members: dict[str, bytes], timeout: float) -> httpx.Response:
    try:
        with httpx.Client(trust_env=False, timeout=timeout) as client:
            response = client.post(
                url, content=cbor.encode(members), headers={"content-type": ADD_TYPE}
            )
    except httpx.HTTPError as error:
        raise LogUnavailable(f"the log cannot be reached: {type(error).__name__}") from error
    if 400 <= response.status_code < 500:
        raise LeafRefused(response.status_code, *_error(response))
    if response.status_code != httpx.codes.OK:
        raise LogUnavailable(f"the log answered {response.status_code}")
    return response


def _error(response: httpx.Response) -> tuple[str, str]:
    try:
        error = response.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "unknown", f"status {response.status_code}"


def _added(response: httpx.Response) -> AddedLeaf:
    try:
        members = response.json()
        proof = LogProof.parse(members["proof"])
    except (ValueError, KeyError, TypeError, AttributeError, Malformed) as error:
        raise LogUnavailable("the log's answer holds no proof") from error
    if members.get("index") != proof.index:
        raise LogUnavailable("the log's answer contradicts its proof")
    return AddedLeaf(proof.index, members["proof"])
