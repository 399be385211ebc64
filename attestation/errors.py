"""The errors of this package.

    AttestationError
    ├── MalformedEvidence     a bundle, a quote or an engine policy is not of its format
    ├── Refused               one check did not hold: its code and its reason
    └── VerificationError     the same, with the step and the verdict so far: what callers meet
        ├── AppraisalError    of a node (`attestation.verifier.node`)
        └── ReceiptError      of a receipt (`attestation.verifier.receipt`)

Checks raise `Refused`; the run of steps they belong to turns it into its `VerificationError`.
"""

from __future__ import annotations

from enum import StrEnum

from attestation.verdict import Step, Verdict


class Code(StrEnum):
    """Why a check did not hold: one code for each way to fail, stable for programs."""

    BUNDLE_MALFORMED = "bundle-malformed"
    KEY_DOCUMENT_MALFORMED = "key-document-malformed"
    ENGINE_POLICY_MALFORMED = "engine-policy-malformed"
    COLLATERAL_MALFORMED = "collateral-malformed"
    PLATFORM_REFUSED = "platform-refused"
    LOG_ORIGIN_REFUSED = "log-origin-refused"
    PLATFORM_UNSUPPORTED = "platform-unsupported"
    QUOTE_MALFORMED = "quote-malformed"
    QUOTE_ROOT_UNKNOWN = "quote-root-unknown"
    QUOTE_SIGNATURE_BAD = "quote-signature-bad"
    QUOTE_UNCHECKED_EVIDENCE = "quote-unchecked-evidence"
    QUOTE_WEAK = "quote-weak"
    QUOTE_FROM_THE_FUTURE = "quote-from-the-future"
    QUOTE_TOO_OLD = "quote-too-old"
    MEASUREMENT_NOT_LOGGED = "measurement-not-logged"
    REPORT_DATA_MISMATCH = "report-data-mismatch"
    KEY_DOCUMENT_NOT_LOGGED = "key-document-not-logged"
    KEY_DOCUMENT_NOT_YET_VALID = "key-document-not-yet-valid"
    KEY_DOCUMENT_EXPIRED = "key-document-expired"
    ENGINE_POLICY_DIGEST_MISMATCH = "engine-policy-digest-mismatch"
    ENGINE_POLICY_NOT_LOGGED = "engine-policy-not-logged"
    ENGINE_POLICY_DEVICE_MISMATCH = "engine-policy-device-mismatch"
    COMPUTE_UNVERIFIED = "compute-unverified"
    TRANSFERS_PLAIN = "transfers-plain"
    CACHE_ACROSS_REQUESTS = "cache-across-requests"
    MODEL_NAME_NOT_LOGGED = "model-name-not-logged"
    MODEL_DIGEST_NOT_LOGGED = "model-digest-not-logged"
    ACCELERATOR_NOT_STATED = "accelerator-not-stated"
    GPU_REPORTS_MISSING = "gpu-reports-missing"
    GPU_REPORTS_SURPLUS = "gpu-reports-surplus"
    GPU_REPORTS_UNSUPPORTED = "gpu-reports-unsupported"

    RECEIPT_MALFORMED = "receipt-malformed"
    RECEIPT_ALGORITHM = "receipt-algorithm"
    RECEIPT_SIGNATURE_BAD = "receipt-signature-bad"
    RECEIPT_CLAIMS_MALFORMED = "receipt-claims-malformed"
    RECEIPT_PROFILE = "receipt-profile"
    RECEIPT_OF_ANOTHER_NODE = "receipt-of-another-node"
    RECEIPT_OF_ANOTHER_REQUEST = "receipt-of-another-request"
    RECEIPT_OF_ANOTHER_RESPONSE = "receipt-of-another-response"
    RECEIPT_OF_ANOTHER_MODEL = "receipt-of-another-model"
    VERIFICATION_BELOW_POLICY = "verification-below-policy"
    VERIFICATION_WITHOUT_CHECKS = "verification-without-checks"
    TRANSFERS_BELOW_POLICY = "transfers-below-policy"
    USAGE_MISMATCH = "usage-mismatch"
    RECEIPT_DATE_NOT_ROUNDED = "receipt-date-not-rounded"
    RECEIPT_DATE_OUTSIDE_WINDOW = "receipt-date-outside-window"

    # Certificates

    # Intel

    # AMD

    # NVIDIA
    GPU_REPORT_MALFORMED = "gpu-report-malformed"
    GPU_CHAIN_MISSING = "gpu-chain-missing"
    GPU_CHAIN_MALFORMED = "gpu-chain-malformed"
    GPU_CHAIN_LENGTH = "gpu-chain-length"
    GPU_CHAIN_BAD = "gpu-chain-bad"
    GPU_ROOT_UNKNOWN = "gpu-root-unknown"
    GPU_CERTIFICATE_NOT_YET_VALID = "gpu-certificate-not-yet-valid"
    GPU_CERTIFICATE_EXPIRED = "gpu-certificate-expired"
    GPU_KEY_UNSUITABLE = "gpu-key-unsuitable"
    GPU_SIGNATURE_BAD = "gpu-signature-bad"
    GPU_FIRMWARE_ID_MISMATCH = "gpu-firmware-id-mismatch"
    GPU_NONCE_MISMATCH = "gpu-nonce-mismatch"
    GPU_NOT_DISTINCT = "gpu-not-distinct"
    GPU_ARCHITECTURE_REFUSED = "gpu-architecture-refused"
    GPU_DRIVER_TOO_OLD = "gpu-driver-too-old"
    GPU_MULTI_GPU_MODE_REFUSED = "gpu-multi-gpu-mode-refused"
    GPU_CONFIDENTIAL_MODE_NOT_SHOWN = "gpu-confidential-mode-not-shown"
    GPU_DEVTOOLS_NOT_EXCLUDED = "gpu-devtools-not-excluded"
    GPU_RIM_MISSING = "gpu-rim-missing"
    GPU_RIM_MALFORMED = "gpu-rim-malformed"
    GPU_RIM_ALGORITHM = "gpu-rim-algorithm"
    GPU_RIM_ROOT_UNKNOWN = "gpu-rim-root-unknown"
    GPU_RIM_CHAIN_BAD = "gpu-rim-chain-bad"
    GPU_RIM_KEY_UNSUITABLE = "gpu-rim-key-unsuitable"
    GPU_RIM_NOT_YET_VALID = "gpu-rim-not-yet-valid"
    GPU_RIM_EXPIRED = "gpu-rim-expired"
    GPU_RIM_TIME_UNKNOWN = "gpu-rim-time-unknown"
    GPU_RIM_SIGNATURE_BAD = "gpu-rim-signature-bad"
    GPU_RIM_CONFLICT = "gpu-rim-conflict"
    GPU_DRIVER_RIM_MISMATCH = "gpu-driver-rim-mismatch"
    GPU_VBIOS_RIM_MISMATCH = "gpu-vbios-rim-mismatch"
    GPU_MEASUREMENT_MISMATCH = "gpu-measurement-mismatch"
    GPU_OCSP_MISSING = "gpu-ocsp-missing"
    GPU_OCSP_MALFORMED = "gpu-ocsp-malformed"
    GPU_OCSP_RESPONDER_BAD = "gpu-ocsp-responder-bad"
    GPU_OCSP_SIGNATURE_BAD = "gpu-ocsp-signature-bad"
    GPU_OCSP_OTHER_CERTIFICATE = "gpu-ocsp-other-certificate"
    GPU_OCSP_FROM_THE_FUTURE = "gpu-ocsp-from-the-future"
    GPU_OCSP_EXPIRED = "gpu-ocsp-expired"
    GPU_OCSP_TOO_OLD = "gpu-ocsp-too-old"
    GPU_OCSP_REVOKED = "gpu-ocsp-revoked"
    GPU_OCSP_UNKNOWN = "gpu-ocsp-unknown"

    # TPM


class AttestationError(Exception):
    """Base of every error raised by `attestation`."""


class MalformedEvidence(AttestationError):
    """Bytes that are not of the format, or not in the one encoding that is accepted."""


class Refused(AttestationError):
    """One check did not hold.

    Attributes:
        code: which way it failed.
        reason: one sentence for a person.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class VerificationError(AttestationError):
    """A mandatory step failed, and what it was about must not be used.

    Attributes:
        step: the step that failed.
        code: which way it failed.
        reason: one sentence for a person.
        verdict: the steps before it, this one, and those not reached as skips.
    """

    def __init__(self, step: str, code: Code, reason: str, verdict: Verdict) -> None:
        super().__init__(f"{step}: {reason} ({code})")
        self.step = step
        self.code = code
        self.reason = reason
        self.verdict = verdict

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the verdict so far."""
        return self.verdict.steps


class AppraisalError(VerificationError):
    """A node's evidence does not satisfy the policy: nothing may be encrypted to this node."""


class ReceiptError(VerificationError):
    """A receipt does not vouch for this completion."""
