"""`sottovoce verify receipt`: that a node vouches for one completion of one request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from attestation.bundle import Bundle
from attestation.errors import Code, MalformedEvidence, ReceiptError, Refused
from attestation.verdict import Step, Verdict
from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.receipt import check_receipt
from attestation.verifier.steps import Finding, Progress
from sottovoce.verify.arguments import Unusable
from sottovoce.verify.completions import (
    Response,
    parse_object,
    parse_receipt,
    parse_response,
    parse_salts,
    request_hashes,
)
from sottovoce.verify.output import Verified
from transparency.errors import Malformed
from transparency.nodes_document import NodesDocument
from wire.errors import WireError
from wire.key_document import KeyDocument
from wire.receipt import Receipt, SignedReceipt

BEFORE, AFTER = ("bundle", "node-evidence"), ("key-document-dates",)
"""The steps around those of `attestation.verifier.receipt`."""

_UNAPPRAISED = "the bundle's keys are taken as they are; `sottovoce verify node` appraises them"
_MINUTE = 60


@dataclass(frozen=True)
class ReceiptFiles:
    """What a receipt is judged by; the formats are those of `sottovoce.verify.completions`.

    Attributes:
        receipt: None: the one in the response.
        request: the request's body.
        response: the response as it arrived.
        bundle: the node's bundle, or a nodes document that has it.
        salts: None: those beside the receipt.
        path: of the request; None: as its body suggests.
    """

    receipt: bytes | None
    request: bytes
    response: bytes
    bundle: bytes
    salts: bytes | None = None
    path: str | None = None


@dataclass(frozen=True)
class BundledNode:
    """Keys and promises as a bundle states them. Nobody has appraised them."""

    key_document: KeyDocument
    engine_policy: EnginePolicy


def verify_receipt(files: ReceiptFiles, *, at: int | None) -> Verified:
    """Judge a receipt; None for `at` judges one of any time.

    Raises:
        ReceiptError: a step did not hold.
        Unusable: a file is not what it should be.
    """
    response = parse_response(files.response)
    signed, attestation = _receipt(files, response)
    salts = _salts(files, attestation or response.attestation)
    data = _bundle(files.bundle, attestation or response.attestation)
    before = Progress(BEFORE, ReceiptError)
    node = before.check("bundle", _decode, data)
    before.skip("node-evidence", _UNAPPRAISED)
    try:
        check = partial(
            check_receipt,
            signed,
            node=node,
            response_hash=response.hash(salts[1]),
            prompt_tokens=response.usage[0],
            completion_tokens=response.usage[1],
            at=at,
        )
        steps = _try(check, request_hashes(files.request, files.path, salts[0]))
        claims = SignedReceipt.decode(signed).verify(node.key_document.receipt_key)
        after = Progress(AFTER, ReceiptError)
        after.check("key-document-dates", _check_dates, claims, node.key_document)
    except ReceiptError as error:
        verdict = Verdict((*before.verdict.steps, *error.steps))
        raise ReceiptError(error.step, error.code, error.reason, verdict) from error
    found = (*before.verdict.steps, *steps, *after.verdict.steps)
    return Verified(_claims(claims, node.key_document), found)


def _try(check: Callable[..., tuple[Step, ...]], hashes: tuple[bytes, bytes]) -> tuple[Step, ...]:
    """Check against each form in which the request may have been sent."""
    canonical, verbatim = hashes
    try:
        return check(request_hash=canonical)
    except ReceiptError as error:
        if error.code is not Code.RECEIPT_OF_ANOTHER_REQUEST:
            raise
    return check(request_hash=verbatim)


def _receipt(files: ReceiptFiles, response: Response) -> tuple[bytes, dict[str, object]]:
    if files.receipt is not None:
        return parse_receipt(files.receipt)
    text = response.attestation.get("receipt")
    if not isinstance(text, str):
        raise Unusable("the response carries no receipt: give one with --receipt")
    return parse_receipt(text.encode())


def _salts(files: ReceiptFiles, attestation: dict[str, object]) -> tuple[bytes, bytes]:
    if files.salts is not None:
        return parse_salts(parse_object(files.salts, "the salts file"))
    return parse_salts(attestation)


def _bundle(data: bytes, attestation: dict[str, object]) -> bytes:
    """Return the bundle: the file itself, or the attested node's in a nodes document."""
    if not data.startswith(b'{"bundles":'):
        return data
    try:
        bundles = NodesDocument.decode(data).bundles
    except Malformed as error:
        raise Unusable(f"the bundle file is a nodes document, but {error}") from None
    node = attestation.get("node")
    if not isinstance(node, str) or node not in bundles:
        raise Unusable("the nodes document does not have the node that the completion names")
    return bundles[node]


def _decode(data: bytes) -> Finding[BundledNode]:
    try:
        bundle = Bundle.decode(data)
    except MalformedEvidence as error:
        raise Refused(Code.BUNDLE_MALFORMED, str(error)) from error
    try:
        document = KeyDocument.decode(bundle.key_document)
    except WireError as error:
        raise Refused(Code.KEY_DOCUMENT_MALFORMED, str(error)) from error
    try:
        engine = EnginePolicy.decode(bundle.engine_policy)
    except MalformedEvidence as error:
        raise Refused(Code.ENGINE_POLICY_MALFORMED, str(error)) from error
    if engine.digest != document.policy_digest:
        reason = "the engine policy is not the one the key document names"
        raise Refused(Code.ENGINE_POLICY_DIGEST_MISMATCH, reason)
    return Finding(BundledNode(document, engine), "decodes; the engine policy is the named one")


def _check_dates(receipt: Receipt, document: KeyDocument) -> Finding[None]:
    if receipt.issued_at < document.not_before - _MINUTE:
        raise Refused(Code.KEY_DOCUMENT_NOT_YET_VALID, "issued before the keys were valid")
    if receipt.issued_at >= document.not_after:
        raise Refused(Code.KEY_DOCUMENT_EXPIRED, "issued after the keys had expired")
    return Finding(None, "issued while the keys were valid")


def _claims(receipt: Receipt, document: KeyDocument) -> dict[str, object]:
    verification, transfers = receipt.verification, receipt.transfers
    return {
        "kind": "receipt",
        "node": receipt.key_document.hex(),
        "model": document.model,
        "model_digest": receipt.model_digest.hex(),
        "request_hash": receipt.request_hash.hex(),
        "response_hash": receipt.response_hash.hex(),
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "verification_mode": verification.mode,
        "verification_checks": verification.checks,
        "decisions": verification.decisions.hex(),
        "transfers_mode": transfers.mode,
        "transfers_sent": transfers.sent,
        "transfers_hits": transfers.hits,
        "transfers_misses": transfers.misses,
        "issued_at": receipt.issued_at,
    }
