"""The check of a receipt: that a verified node vouches for this completion of this request.

The steps, in their order; each is mandatory, and the first that fails ends the check:

    receipt-format          a COSE_Sign1 of the one accepted shape
    receipt-signature       under the node's receipt key, over claims of our profile
    receipt-node            names the node's key document
    receipt-request         the salted hash of the request
    receipt-response        the salted hash of the response
    receipt-model           the model digest of the key document
    receipt-verification    at least the mode that the node's engine policy promises
    receipt-transfers       likewise
    receipt-usage           the token counts that the completion states
    receipt-date            rounded to the minute
    receipt-age             issued inside the window
"""

from __future__ import annotations

from typing import Protocol

from attestation.errors import Code, ReceiptError, Refused
from attestation.verdict import Step
from attestation.verifier.engine_policy import (
    TRANSFERS_AT_LEAST,
    VERIFICATION_AT_LEAST,
    EnginePolicy,
)
from attestation.verifier.steps import Finding, Progress
from wire.errors import BadSignature, Malformed, Unsupported
from wire.key_document import KeyDocument
from wire.receipt import Receipt, SignedReceipt

STEPS = (
    "receipt-format",
    "receipt-signature",
    "receipt-node",
    "receipt-request",
    "receipt-response",
    "receipt-model",
    "receipt-verification",
    "receipt-transfers",
    "receipt-usage",
    "receipt-date",
    "receipt-age",
)

WINDOW_S = 300
"""How far issued-at may lie from the client's clock, as for the `Date` of a request."""

_MINUTE = 60
_PLAINLY = {
    "none": "the accelerator's work was not checked",
    "audit": "every token's computation and secret samples of the prompt's were checked; a lie "
    "about a few rows in the middle of a prompt may pass",
    "full": "the computation of every token of prompt and answer was checked",
    "ship": "the computation of every token of prompt and answer was checked",
}


class Vouching(Protocol):
    """Whose receipt it is: the key that signs, and the promises it is held against."""

    @property
    def key_document(self) -> KeyDocument:
        """The node's keys and model."""

    @property
    def engine_policy(self) -> EnginePolicy:
        """What its engine promises."""


def check_receipt(
    receipt: bytes,
    *,
    node: Vouching,
    request_hash: bytes,
    response_hash: bytes,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    at: int | None,
) -> tuple[Step, ...]:
    """Check that `node` vouches for one completion, and return the steps that showed it.

    Args:
        receipt: the COSE_Sign1 that came with the completion.
        node: the node that the request was encrypted to, a `VerifiedNode`; or keys and promises
            that somebody else answers for.
        request_hash: `wire.receipt.request_hash` over what was sent.
        response_hash: the digest of a `wire.receipt.ResponseHash` over what arrived.
        prompt_tokens: the usage that the completion states. None, for both counts, if it states
            none: that there was nothing to compare is itself covered by the response hash.
        completion_tokens: likewise.
        at: unix seconds; None to judge a receipt of any time: the window is then skipped, and what
            the receipt is worth depends on when it was made.

    Raises:
        ReceiptError: a step failed; it carries the step, its code and the verdict so far.
    """
    progress = Progress(STEPS, ReceiptError)
    document, engine = node.key_document, node.engine_policy
    signed = progress.check("receipt-format", _decode, receipt)
    claims = progress.check("receipt-signature", _verify, signed, document.receipt_key)
    progress.check("receipt-node", _check_node, claims, document.digest)
    progress.check("receipt-request", _check_request, claims, request_hash)
    progress.check("receipt-response", _check_response, claims, response_hash)
    progress.check("receipt-model", _check_model, claims, document.model_digest)
    progress.check("receipt-verification", _check_verification, claims, engine)
    progress.check("receipt-transfers", _check_transfers, claims, engine)
    progress.check("receipt-usage", _check_usage, claims, (prompt_tokens, completion_tokens))
    progress.check("receipt-date", _check_date, claims)
    if at is None:
        progress.skip("receipt-age", "no time was given to compare its date with")
    else:
        progress.check("receipt-age", _check_age, claims, at)
    return progress.verdict.steps


def _decode(data: bytes) -> Finding[SignedReceipt]:
    try:
        return Finding(SignedReceipt.decode(data), "a COSE_Sign1 in its one encoding")
    except Malformed as error:
        raise Refused(Code.RECEIPT_MALFORMED, str(error)) from error
    except Unsupported as error:
        raise Refused(Code.RECEIPT_ALGORITHM, str(error)) from error


def _verify(signed: SignedReceipt, receipt_key: bytes) -> Finding[Receipt]:
    try:
        return Finding(signed.verify(receipt_key), "signed with the node's receipt key")
    except BadSignature as error:
        raise Refused(Code.RECEIPT_SIGNATURE_BAD, str(error)) from error
    except Malformed as error:
        raise Refused(Code.RECEIPT_CLAIMS_MALFORMED, str(error)) from error
    except Unsupported as error:
        raise Refused(Code.RECEIPT_PROFILE, str(error)) from error


def _check_node(receipt: Receipt, digest: bytes) -> Finding[None]:
    if receipt.key_document != digest:
        raise Refused(Code.RECEIPT_OF_ANOTHER_NODE, "names another key document")
    return Finding(None, "names the node's key document")


def _check_request(receipt: Receipt, expected: bytes) -> Finding[None]:
    if receipt.request_hash != expected:
        raise Refused(Code.RECEIPT_OF_ANOTHER_REQUEST, "is not about the request that was sent")
    return Finding(None, "is about the request that was sent")


def _check_response(receipt: Receipt, expected: bytes) -> Finding[None]:
    if receipt.response_hash != expected:
        raise Refused(Code.RECEIPT_OF_ANOTHER_RESPONSE, "is not about the response that arrived")
    return Finding(None, "is about the response that arrived")


def _check_model(receipt: Receipt, model_digest: bytes) -> Finding[None]:
    if receipt.model_digest != model_digest:
        raise Refused(Code.RECEIPT_OF_ANOTHER_MODEL, "names another model than the key document")
    return Finding(None, "names the key document's model")


def _check_verification(receipt: Receipt, engine: EnginePolicy) -> Finding[None]:
    done = receipt.verification
    if done.mode not in VERIFICATION_AT_LEAST[engine.verification]:
        reason = f"verified by {done.mode}; the node promises {engine.verification}"
        raise Refused(Code.VERIFICATION_BELOW_POLICY, reason)
    if done.mode != "none" and receipt.completion_tokens and not done.checks:
        raise Refused(Code.VERIFICATION_WITHOUT_CHECKS, f"verified by {done.mode} in no check")
    return Finding(None, f"{done.mode}: {_PLAINLY[done.mode]}, in {done.checks} checks")


def _check_transfers(receipt: Receipt, engine: EnginePolicy) -> Finding[None]:
    done = receipt.transfers
    if done.mode not in TRANSFERS_AT_LEAST[engine.transfers]:
        reason = f"transfers were {done.mode}; the node promises {engine.transfers}"
        raise Refused(Code.TRANSFERS_BELOW_POLICY, reason)
    return Finding(None, f"transfers were {done.mode}: {done.sent} sent")


def _check_usage(receipt: Receipt, stated: tuple[int | None, int | None]) -> Finding[None]:
    signed = (receipt.prompt_tokens, receipt.completion_tokens)
    counts = f"{signed[0]} prompt and {signed[1]} completion tokens"
    if stated == (None, None):
        return Finding(None, f"the completion states no usage; {counts} were signed for")
    if stated != signed:
        raise Refused(Code.USAGE_MISMATCH, "the completion states other counts than were signed")
    return Finding(None, counts)


def _check_date(receipt: Receipt) -> Finding[None]:
    if receipt.issued_at % _MINUTE:
        raise Refused(Code.RECEIPT_DATE_NOT_ROUNDED, "a time finer than minutes marks a request")
    return Finding(None, "its date is rounded to the minute")


def _check_age(receipt: Receipt, at: int) -> Finding[None]:
    if abs(at - receipt.issued_at) > WINDOW_S:
        raise Refused(Code.RECEIPT_DATE_OUTSIDE_WINDOW, f"not issued within {WINDOW_S} s of now")
    return Finding(None, "issued now")
