"""The appraisal of a node: from a bundle to the one thing that a client may encrypt to.

The steps, in their order; each is mandatory, and the first that fails ends the appraisal:

    bundle                  decodes, and so do the key document and the engine policy in it
    platform                is one whose quotes the policy accepts
    log-origin              ends `.simulated` for simulated nodes, and for them only
    quote-signature         leads to a root that is pinned for this platform
    quote-dates             hold at the time of appraisal
    platform-policy         accepts what the quote says of its platform
    measurement             is of a release in the log
    report-data             binds key document, GPU reports and nonce
    key-document-log        the key document is in the log
    key-document-dates      hold at the time of appraisal
    engine-policy           has the key document's digest, is in the log, and satisfies the policy
    model-digest            is in the log under the model's name
    gpu-evidence            is there for every GPU that the key document states
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import final

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import AppraisalError, Code, MalformedEvidence, Refused
from attestation.report_data import NO_NONCE, report_data
from attestation.simulated_quote import PLATFORM as SIMULATED
from attestation.verdict import Step, Verdict
from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.nvidia import node as gpus
from attestation.verifier.platforms import PLATFORMS
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.quote import Quote
from attestation.verifier.steps import Finding, Progress
from attestation.verifier.weakness import WARNINGS, Weakness
from wire.errors import WireError
from wire.key_document import KeyDocument

STEPS = (
    "bundle",
    "platform",
    "log-origin",
    "quote-signature",
    "quote-dates",
    "platform-policy",
    "measurement",
    "report-data",
    "key-document-log",
    "key-document-dates",
    "engine-policy",
    "model-digest",
    "gpu-evidence",
)

GPU_ROOTS = "nvidia"
"""Under which name the roots of GPUs and of their reference measurements are pinned."""

SIMULATED_ORIGIN = ".simulated"
"""How the origin of a log of simulated nodes ends. No log holds both kinds."""


@dataclass(frozen=True)
class ReferenceValues:
    """What evidence is held against: all of it pinned, or proven to be in the log.

    A log that admits a key document has not logged it yet: it states the document's own digest in
    `key_documents`, and so keeps every other check.

    Attributes:
        key_documents: digests of the key documents in the log.
        releases: for each platform, the measurements of the releases in the log.
        models: for each model's name, its digests in the log.
        policies: digests of the engine policies in the log.
        roots: for each platform, the fingerprints of its pinned roots.
        log_origin: the log's origin.
    """

    key_documents: frozenset[bytes]
    releases: Mapping[str, frozenset[bytes]]
    models: Mapping[str, frozenset[bytes]]
    policies: frozenset[bytes]
    roots: Mapping[str, frozenset[bytes]]
    log_origin: str


_APPRAISED = object()


@final
@dataclass(frozen=True)
class VerifiedNode:
    """A node that passed every step of an appraisal. Only `appraise` can make one.

    Attributes:
        key_document: the keys that the quote vouches for.
        platform: the platform of the quote.
        quote: the platform's own bytes.
        engine_policy: what its engine promises.
        weaknesses: what the policy put up with, by name.
        verdict: the steps of the appraisal.
        appraised_at: unix seconds.

    Raises:
        TypeError: (on construction) by anything but `appraise`.
    """

    key_document: KeyDocument
    platform: str
    quote: bytes = field(repr=False)
    engine_policy: EnginePolicy
    weaknesses: frozenset[Weakness]
    verdict: Verdict = field(repr=False)
    appraised_at: int
    # An InitVar, so that `dataclasses.replace` cannot carry it over into a changed copy.
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _APPRAISED:
            raise TypeError("only appraise() makes a VerifiedNode")

    @property
    def node(self) -> str:
        """The node's name: its key document's digest in lower-case hex."""
        return self.key_document.node

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the appraisal."""
        return self.verdict.steps

    @property
    def capacity(self) -> int:
        """The node's capacity class: 1, 2, 4 or 8."""
        return self.key_document.capacity

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every surface that shows this node must say of it, loudly."""
        return tuple(WARNINGS[weakness] for weakness in sorted(self.weaknesses))


def appraise(
    bundle: bytes,
    *,
    policy: ClientPolicy,
    reference: ReferenceValues,
    at: int,
    nonce: bytes = NO_NONCE,
) -> VerifiedNode:
    """Appraise a node's evidence.

    Args:
        bundle: the encoded bundle.
        policy: what is demanded of the node.
        reference: what the evidence is held against.
        at: unix seconds.
        nonce: the nonce of a fresh quote that was asked for; zeros for the logged bundle.

    Raises:
        AppraisalError: a step failed; it carries the step, its code and the verdict so far.
    """
    progress = Progress(STEPS, AppraisalError)
    evidence = progress.check("bundle", _decode, bundle)
    platform, document = evidence.bundle.platform, evidence.key_document
    of_platform = progress.check("platform", _accept_platform, platform, policy)
    progress.check("log-origin", _check_log_origin, platform, reference.log_origin)
    quote = progress.check("quote-signature", _verify_quote, evidence, reference, at)
    progress.check("quote-dates", _check_quote_dates, quote, policy, at)
    of_quote = progress.check("platform-policy", _accept_quote, quote, policy, at)
    progress.check("measurement", _check_measurement, quote, platform, policy, reference)
    progress.check("report-data", _check_report_data, quote, evidence, nonce)
    progress.check("key-document-log", _check_logged, document, reference)
    progress.check("key-document-dates", _check_validity, document, policy, at)
    of_engine = progress.check("engine-policy", _accept_engine, evidence, policy, reference)
    progress.check("model-digest", _check_model, document, policy, reference)
    progress.check("gpu-evidence", _check_gpus, evidence, policy, reference, nonce, at)
    return VerifiedNode(
        key_document=document,
        platform=platform,
        quote=evidence.bundle.quote,
        engine_policy=evidence.engine_policy,
        weaknesses=of_platform | of_quote | of_engine,
        verdict=progress.verdict,
        appraised_at=at,
        seal=_APPRAISED,
    )


@dataclass(frozen=True)
class _Evidence:
    """A bundle with its parts decoded."""

    bundle: Bundle
    collateral: Collateral
    key_document: KeyDocument
    engine_policy: EnginePolicy


def _decode(data: bytes) -> Finding[_Evidence]:
    try:
        bundle = Bundle.decode(data)
    except MalformedEvidence as error:
        raise Refused(Code.BUNDLE_MALFORMED, str(error)) from error
    try:
        collateral = Collateral.decode(bundle.collateral)
    except MalformedEvidence as error:
        raise Refused(Code.COLLATERAL_MALFORMED, str(error)) from error
    try:
        document = KeyDocument.decode(bundle.key_document)
    except WireError as error:
        raise Refused(Code.KEY_DOCUMENT_MALFORMED, str(error)) from error
    try:
        engine_policy = EnginePolicy.decode(bundle.engine_policy)
    except MalformedEvidence as error:
        raise Refused(Code.ENGINE_POLICY_MALFORMED, str(error)) from error
    evidence = _Evidence(bundle, collateral, document, engine_policy)
    return Finding(evidence, "decodes, in its one encoding")


def _accept_platform(platform: str, policy: ClientPolicy) -> Finding[frozenset[Weakness]]:
    weaknesses = policy.accept_platform(platform)
    return Finding(weaknesses, _accepted(f"{platform} is accepted", weaknesses))


def _check_log_origin(platform: str, log_origin: str) -> Finding[None]:
    if (platform == SIMULATED) != log_origin.endswith(SIMULATED_ORIGIN):
        reason = f"a {platform} node has no place in the log of this origin"
        raise Refused(Code.LOG_ORIGIN_REFUSED, reason)
    return Finding(None, f"the log's origin is one for {platform} nodes")


def _verify_quote(evidence: _Evidence, reference: ReferenceValues, at: int) -> Finding[Quote]:
    bundle = evidence.bundle
    platform = PLATFORMS.get(bundle.platform)
    if platform is None:
        reason = f"there is no verifier for {bundle.platform} quotes"
        raise Refused(Code.PLATFORM_UNSUPPORTED, reason)
    parts = evidence.collateral.parts
    used = platform.collateral_names | gpus.collateral_names(parts, len(bundle.gpu_reports))
    if evidence.collateral.unused(used):
        raise Refused(Code.QUOTE_UNCHECKED_EVIDENCE, "collateral that nothing here uses")
    roots = reference.roots.get(bundle.platform, frozenset())
    quote = platform.verify(bundle, evidence.collateral, roots=roots, at=at)
    return Finding(quote, quote.worth)


def _check_quote_dates(quote: Quote, policy: ClientPolicy, at: int) -> Finding[None]:
    return Finding(None, quote.check_dates(at=at, max_age_s=policy.max_quote_age_s))


def _accept_quote(quote: Quote, policy: ClientPolicy, at: int) -> Finding[frozenset[Weakness]]:
    reason = policy.accept_quote(quote, at=at)
    return Finding(quote.weaknesses, _accepted(reason, quote.weaknesses))


def _check_measurement(
    quote: Quote, platform: str, policy: ClientPolicy, reference: ReferenceValues
) -> Finding[None]:
    if quote.measurement not in reference.releases.get(platform, frozenset()):
        raise Refused(Code.MEASUREMENT_NOT_LOGGED, "what runs is no release in the log")
    policy.accept_release(platform, quote.measurement)
    return Finding(None, "what runs is a release in the log")


def _check_report_data(quote: Quote, evidence: _Evidence, nonce: bytes) -> Finding[None]:
    bound = evidence.key_document.digest, evidence.bundle.gpu_reports
    try:
        return Finding(None, quote.check_report_data(report_data(*bound, nonce)))
    except Refused:
        # A TPM's quote shows a digest only, so this one question is asked of it as well.
        if nonce != NO_NONCE and _binds(quote, report_data(*bound)):
            reason = "the quote is over no nonce: the one that everybody gets, not a fresh one"
            raise Refused(Code.NONCE_MISMATCH, reason) from None
        raise


def _binds(quote: Quote, data: bytes) -> bool:
    try:
        quote.check_report_data(data)
    except Refused:
        return False
    return True


def _check_logged(document: KeyDocument, reference: ReferenceValues) -> Finding[None]:
    if document.digest not in reference.key_documents:
        raise Refused(Code.KEY_DOCUMENT_NOT_LOGGED, "the key document is not in the log")
    return Finding(None, "the key document is in the log")


def _check_validity(document: KeyDocument, policy: ClientPolicy, at: int) -> Finding[None]:
    if at < document.not_before - policy.notice_s:
        raise Refused(Code.KEY_DOCUMENT_NOT_YET_VALID, "the key document is not valid yet")
    if at >= document.not_after:
        raise Refused(Code.KEY_DOCUMENT_EXPIRED, "the key document has expired")
    return Finding(None, f"valid for another {document.not_after - at} s")


def _accept_engine(
    evidence: _Evidence, policy: ClientPolicy, reference: ReferenceValues
) -> Finding[frozenset[Weakness]]:
    engine, document = evidence.engine_policy, evidence.key_document
    if engine.digest != document.policy_digest:
        reason = "the engine policy is not the one the key document names"
        raise Refused(Code.ENGINE_POLICY_DIGEST_MISMATCH, reason)
    if engine.digest not in reference.policies:
        raise Refused(Code.ENGINE_POLICY_NOT_LOGGED, "the engine policy is not in the log")
    if engine.device != document.device:
        reason = "engine policy and key document name different kinds of device"
        raise Refused(Code.ENGINE_POLICY_DEVICE_MISMATCH, reason)
    weaknesses = policy.accept_engine(engine)
    reason = f"verification {engine.verification}, transfers {engine.transfers}"
    return Finding(weaknesses, _accepted(reason, weaknesses))


def _check_model(
    document: KeyDocument, policy: ClientPolicy, reference: ReferenceValues
) -> Finding[None]:
    digests = reference.models.get(document.model)
    if digests is None:
        raise Refused(Code.MODEL_NAME_NOT_LOGGED, "no model of this name is in the log")
    if document.model_digest not in digests:
        raise Refused(Code.MODEL_DIGEST_NOT_LOGGED, "the model's digest is not in the log")
    policy.accept_model(document.model, document.model_digest)
    return Finding(None, "the model's digest is in the log under its name")


def _check_gpus(
    evidence: _Evidence, policy: ClientPolicy, reference: ReferenceValues, nonce: bytes, at: int
) -> Finding[None]:
    document, bundle = evidence.key_document, evidence.bundle
    if not document.gpu_count and document.device != "cpu" and bundle.platform != SIMULATED:
        # Else a node could keep an unattested GPU by not counting it.
        raise Refused(Code.ACCELERATOR_NOT_STATED, "it computes on a device it does not state")
    found = gpus.check_gpus(
        bundle.gpu_reports,
        evidence.collateral.parts,
        key_document_digest=document.digest,
        nonce=nonce,
        count=document.gpu_count,
        policy=policy.gpu,
        roots=reference.roots.get(GPU_ROOTS, frozenset()),
        at=at,
    )
    return Finding(None, found.reason if document.gpu_count else "no accelerator stated")


def _accepted(reason: str, weaknesses: frozenset[Weakness]) -> str:
    warnings = [f"accepted weakness: {WARNINGS[weakness]}" for weakness in sorted(weaknesses)]
    return "; ".join([reason, *warnings])
