"""The errors of this package.

    AttestationError
    ├── PolicyError           a policy file is not of its format
    ├── MalformedEvidence     a bundle, a quote or an engine policy is not of its format
    ├── Refused               one check did not hold: its code and its reason
    ├── AttesterFailed        this machine does not quote: no such hardware, or it did not answer
    └── VerificationError     the same, with the step and the verdict so far: what callers meet
        ├── EvidenceError     of one piece of evidence, by itself
        ├── AppraisalError    of a node (`attestation.verifier.node`)
        └── ReceiptError      of a receipt (`attestation.verifier.receipt`)

Checks raise `Refused`; the run of steps they belong to turns it into its `VerificationError`.
"""

from __future__ import annotations

from enum import StrEnum, unique

from attestation.verdict import Step, Verdict


@unique
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
    RELEASE_NOT_ALLOWED = "release-not-allowed"
    REPORT_DATA_MISMATCH = "report-data-mismatch"
    NONCE_MISMATCH = "nonce-mismatch"
    NODE_MISMATCH = "node-mismatch"
    KEY_DOCUMENT_NOT_LOGGED = "key-document-not-logged"
    KEY_DOCUMENT_NOT_YET_VALID = "key-document-not-yet-valid"
    KEY_DOCUMENT_EXPIRED = "key-document-expired"
    ENGINE_POLICY_DIGEST_MISMATCH = "engine-policy-digest-mismatch"
    ENGINE_POLICY_NOT_LOGGED = "engine-policy-not-logged"
    ENGINE_POLICY_DEVICE_MISMATCH = "engine-policy-device-mismatch"
    COMPUTE_UNVERIFIED = "compute-unverified"
    TRANSFERS_PLAIN = "transfers-plain"
    CACHE_ACROSS_REQUESTS = "cache-across-requests"
    ENGINE_VERIFICATION_TOO_WEAK = "engine-verification-too-weak"
    ENGINE_TRANSFERS_TOO_WEAK = "engine-transfers-too-weak"
    ENGINE_OFFLOAD_TOO_FAR = "engine-offload-too-far"
    ENGINE_OPTIMISATION_REFUSED = "engine-optimisation-refused"
    MODEL_NAME_NOT_LOGGED = "model-name-not-logged"
    MODEL_DIGEST_NOT_LOGGED = "model-digest-not-logged"
    MODEL_NOT_ALLOWED = "model-not-allowed"
    ACCELERATOR_NOT_STATED = "accelerator-not-stated"
    GPU_REPORTS_MISSING = "gpu-reports-missing"
    GPU_REPORTS_SURPLUS = "gpu-reports-surplus"

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
    TDX_QUOTE_MALFORMED = "tdx-quote-malformed"
    TDX_QUOTE_TRAILING_BYTES = "tdx-quote-trailing-bytes"
    TDX_COLLATERAL_MISSING = "tdx-collateral-missing"
    TDX_COLLATERAL_MALFORMED = "tdx-collateral-malformed"
    TDX_PCK_CHAIN_MISSING = "tdx-pck-chain-missing"
    TDX_PCK_CHAIN_MISMATCH = "tdx-pck-chain-mismatch"
    TDX_ROOT_UNKNOWN = "tdx-root-unknown"
    TDX_PCK_CHAIN_BAD = "tdx-pck-chain-bad"
    TDX_TCB_SIGNER_BAD = "tdx-tcb-signer-bad"
    TDX_QE_SIGNER_BAD = "tdx-qe-signer-bad"
    TDX_CERTIFICATE_NOT_YET_VALID = "tdx-certificate-not-yet-valid"
    TDX_CERTIFICATE_EXPIRED = "tdx-certificate-expired"
    TDX_TCB_INFO_SIGNATURE_BAD = "tdx-tcb-info-signature-bad"
    TDX_QE_IDENTITY_SIGNATURE_BAD = "tdx-qe-identity-signature-bad"
    TDX_COLLATERAL_NOT_YET_VALID = "tdx-collateral-not-yet-valid"
    TDX_COLLATERAL_EXPIRED = "tdx-collateral-expired"
    TDX_CRL_SIGNER_BAD = "tdx-crl-signer-bad"
    TDX_CRL_SIGNATURE_BAD = "tdx-crl-signature-bad"
    TDX_CRL_NOT_YET_VALID = "tdx-crl-not-yet-valid"
    TDX_CRL_EXPIRED = "tdx-crl-expired"
    TDX_CA_REVOKED = "tdx-ca-revoked"
    TDX_PCK_REVOKED = "tdx-pck-revoked"
    TDX_QE_REPORT_SIGNATURE_BAD = "tdx-qe-report-signature-bad"
    TDX_ATTESTATION_KEY_UNBOUND = "tdx-attestation-key-unbound"
    TDX_QUOTE_SIGNATURE_BAD = "tdx-quote-signature-bad"
    TDX_DEBUG = "tdx-debug"
    TDX_PROFILED = "tdx-profiled"
    TDX_ATTRIBUTES_RESERVED = "tdx-attributes-reserved"
    TDX_MIGRATABLE = "tdx-migratable"
    TDX_SERVICE_TD = "tdx-service-td"
    TDX_SEPT_VE = "tdx-sept-ve"
    TDX_COLLATERAL_OF_ANOTHER_TEE = "tdx-collateral-of-another-tee"
    TDX_QE_MISMATCH = "tdx-qe-mismatch"
    TDX_FMSPC_MISMATCH = "tdx-fmspc-mismatch"
    TDX_TCB_UNKNOWN = "tdx-tcb-unknown"
    TDX_TCB_REVOKED = "tdx-tcb-revoked"
    TDX_MODULE_MISMATCH = "tdx-module-mismatch"
    TDX_DCAP_REFUSED = "tdx-dcap-refused"
    TDX_NOT_A_TD = "tdx-not-a-td"
    TDX_TCB_STATUS = "tdx-tcb-status"
    TDX_ADVISORY = "tdx-advisory"
    TDX_TCB_EVALUATION_TOO_OLD = "tdx-tcb-evaluation-too-old"
    TDX_COLLATERAL_TOO_OLD = "tdx-collateral-too-old"
    TDX_DYNAMIC_PLATFORM = "tdx-dynamic-platform"
    TDX_PERFMON = "tdx-perfmon"
    TDX_KEY_LOCKER = "tdx-key-locker"
    TDX_PROVISIONING_AGENT = "tdx-provisioning-agent"
    TDX_EVENT_LOG_MALFORMED = "tdx-event-log-malformed"
    TDX_EVENT_LOG_MISMATCH = "tdx-event-log-mismatch"

    # AMD
    SNP_MALFORMED = "snp-malformed"
    SNP_VERSION_UNSUPPORTED = "snp-version-unsupported"
    SNP_ALGORITHM_UNSUPPORTED = "snp-algorithm-unsupported"
    SNP_UNSIGNED = "snp-unsigned"
    SNP_CHAIN_MALFORMED = "snp-chain-malformed"
    SNP_CHAIN_BAD = "snp-chain-bad"
    SNP_ROOT_UNKNOWN = "snp-root-unknown"
    SNP_CERTIFICATE_NOT_YET_VALID = "snp-certificate-not-yet-valid"
    SNP_CERTIFICATE_EXPIRED = "snp-certificate-expired"
    SNP_CRL_MALFORMED = "snp-crl-malformed"
    SNP_CRL_SIGNATURE_BAD = "snp-crl-signature-bad"
    SNP_CRL_NOT_YET_VALID = "snp-crl-not-yet-valid"
    SNP_CRL_EXPIRED = "snp-crl-expired"
    SNP_REVOKED = "snp-revoked"
    SNP_ENDORSEMENT_MALFORMED = "snp-endorsement-malformed"
    SNP_SIGNING_KEY_MISMATCH = "snp-signing-key-mismatch"
    SNP_PRODUCT_UNSUPPORTED = "snp-product-unsupported"
    SNP_PRODUCT_MISMATCH = "snp-product-mismatch"
    SNP_SIGNATURE_BAD = "snp-signature-bad"
    SNP_CHIP_ID_MISMATCH = "snp-chip-id-mismatch"
    SNP_TCB_MISMATCH = "snp-tcb-mismatch"
    SNP_PRODUCT_REFUSED = "snp-product-refused"
    SNP_REPORT_VERSION_TOO_OLD = "snp-report-version-too-old"
    SNP_DEBUG = "snp-debug"
    SNP_MIGRATION_AGENT = "snp-migration-agent"
    SNP_SMT = "snp-smt"
    SNP_SEVERAL_SOCKETS = "snp-several-sockets"
    SNP_CXL = "snp-cxl"
    SNP_ABI_TOO_OLD = "snp-abi-too-old"
    SNP_VMPL = "snp-vmpl"
    SNP_GUEST_SVN_TOO_OLD = "snp-guest-svn-too-old"
    SNP_REPORTED_TCB_TOO_OLD = "snp-reported-tcb-too-old"
    SNP_COMMITTED_TCB_TOO_OLD = "snp-committed-tcb-too-old"
    SNP_CURRENT_TCB_TOO_OLD = "snp-current-tcb-too-old"
    SNP_LAUNCH_TCB_TOO_OLD = "snp-launch-tcb-too-old"
    SNP_PROVISIONAL_FIRMWARE = "snp-provisional-firmware"
    SNP_VLEK = "snp-vlek"
    SNP_CSP_REFUSED = "snp-csp-refused"
    SNP_CHIP_ID_MASKED = "snp-chip-id-masked"
    SNP_TSME_OFF = "snp-tsme-off"
    SNP_ECC_OFF = "snp-ecc-off"
    SNP_RAPL_ON = "snp-rapl-on"
    SNP_CIPHERTEXT_HIDING_OFF = "snp-ciphertext-hiding-off"
    SNP_ALIAS_CHECK_MISSING = "snp-alias-check-missing"
    SNP_ID_KEY_REFUSED = "snp-id-key-refused"
    SNP_AUTHOR_KEY_REFUSED = "snp-author-key-refused"
    SNP_CRL_MISSING = "snp-crl-missing"
    SNP_CRL_TOO_OLD = "snp-crl-too-old"

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
    TPM_MALFORMED = "tpm-malformed"
    TPM_NOT_GENERATED = "tpm-not-generated"
    TPM_NOT_A_QUOTE = "tpm-not-a-quote"
    TPM_NOT_A_CERTIFICATION = "tpm-not-a-certification"
    TPM_SIGNATURE_SCHEME = "tpm-signature-scheme"
    TPM_SIGNATURE_BAD = "tpm-signature-bad"
    TPM_KEY_UNSUPPORTED = "tpm-key-unsupported"
    TPM_AK_ATTRIBUTES = "tpm-ak-attributes"
    TPM_PCR_SELECTION_MISMATCH = "tpm-pcr-selection-mismatch"
    TPM_PCR_DIGEST_MISMATCH = "tpm-pcr-digest-mismatch"
    TPM_CHAIN_MALFORMED = "tpm-chain-malformed"
    TPM_CHAIN_BAD = "tpm-chain-bad"
    TPM_ROOT_UNKNOWN = "tpm-root-unknown"
    TPM_CERTIFICATE_NOT_YET_VALID = "tpm-certificate-not-yet-valid"
    TPM_CERTIFICATE_EXPIRED = "tpm-certificate-expired"
    TPM_CERTIFICATE_NOT_OF_AN_AK = "tpm-certificate-not-of-an-ak"
    TPM_AK_MISMATCH = "tpm-ak-mismatch"
    TPM_CERTIFIER_UNKNOWN = "tpm-certifier-unknown"
    TPM_CERTIFICATION_MALFORMED = "tpm-certification-malformed"
    TPM_CERTIFICATION_SIGNATURE_BAD = "tpm-certification-signature-bad"
    TPM_CERTIFICATION_OF_ANOTHER = "tpm-certification-of-another"
    TPM_EVENT_LOG_MALFORMED = "tpm-event-log-malformed"
    TPM_EVENT_LOG_BANK = "tpm-event-log-bank"
    TPM_EVENT_LOG_MISMATCH = "tpm-event-log-mismatch"
    TPM_EVENT_DATA_MISMATCH = "tpm-event-data-mismatch"
    TPM_SECURE_BOOT_AMBIGUOUS = "tpm-secure-boot-ambiguous"
    TPM_AK_UNPROVEN = "tpm-ak-unproven"
    TPM_REGISTERS_MISSING = "tpm-registers-missing"
    TPM_SECURE_BOOT_UNKNOWN = "tpm-secure-boot-unknown"
    TPM_SECURE_BOOT_OFF = "tpm-secure-boot-off"
    TPM_CLOCK = "tpm-clock"
    AZURE_MALFORMED = "azure-malformed"
    AZURE_HARDWARE_MISMATCH = "azure-hardware-mismatch"
    AZURE_RUNTIME_MISMATCH = "azure-runtime-mismatch"
    AZURE_VMPL = "azure-vmpl"
    GCE_MALFORMED = "gce-malformed"
    GCE_QUOTES_MISMATCH = "gce-quotes-mismatch"
    GCE_CERTIFICATE_MISSING = "gce-certificate-missing"
    GCE_INSTANCE_MALFORMED = "gce-instance-malformed"


class AttestationError(Exception):
    """Base of every error raised by `attestation`."""


class PolicyError(AttestationError):
    """A policy that cannot be read: the message says where, and what could stand there."""


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


class AttesterFailed(AttestationError):
    """This machine has no such hardware, or the kernel, firmware or device did not do its part."""


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


class EvidenceError(VerificationError):
    """A piece of evidence is not authentic, or not acceptable under the policy it was shown to."""


class AppraisalError(VerificationError):
    """A node's evidence does not satisfy the policy: nothing may be encrypted to this node."""


class ReceiptError(VerificationError):
    """A receipt does not vouch for this completion."""
