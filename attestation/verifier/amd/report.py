"""The attestation report (AMD 56860, table "ATTESTATION_REPORT"), little-endian.

    000 version u32         048 key information u32    140 report id         1E0 committed TCB
    004 guest SVN u32       04C zero                   160 migration agent's 1E8 current version
    008 policy u64          050 report data (64)       180 reported TCB      1EC committed version
    010 family id (16)      090 measurement (48)       188 CPUID (3), v3     1F0 launch TCB
    020 image id (16)       0C0 host data (32)         18B zero              1F8 mitigations, v5
    030 VMPL u32            0E0 id key digest (48)     1A0 chip id (64)      208 zero
    034 algorithm u32       110 author key digest (48)                       2A0 signature (512)
    038 current TCB (8)
    040 platform information u64

Version 3 gave the CPUID a place, version 5 the mitigation vectors. Version 4 was never published
apart: what is reserved in version 5 is zero in it too, and its vectors are read as version 5's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from attestation.errors import Code, MalformedEvidence, Refused

LENGTH = 0x4A0
SIGNED = 0x2A0
"""How many bytes of a report are signed: all before the signature."""

VERSIONS = (2, 3, 4, 5)
ECDSA_P384_SHA384 = 1
HOST_REQUESTED = 0xFFFFFFFF
"""The VMPL of a report that the host asked for, not the guest."""

_NO_AGENT = b"\xff" * 32
_SCALAR, _SCALAR_FIELD = 48, 72


class SigningKey(IntEnum):
    """Whose signature it is."""

    VCEK = 0
    VLEK = 1
    NONE = 7


class PolicyBit(IntFlag):
    """What the guest's owner allowed or demanded (table "GUEST_POLICY")."""

    SMT = 1 << 16
    MUST_BE_ONE = 1 << 17
    MIGRATION_AGENT = 1 << 18
    DEBUG = 1 << 19
    SINGLE_SOCKET = 1 << 20
    CXL = 1 << 21
    AES_256_XTS = 1 << 22
    RAPL_DISABLED = 1 << 23
    CIPHERTEXT_HIDING = 1 << 24
    PAGE_SWAP_DISABLED = 1 << 25


class PlatformBit(IntFlag):
    """What the machine is set to (table "PLATFORM_INFO"). Newer firmware has further bits."""

    SMT = 1 << 0
    TSME = 1 << 1
    ECC = 1 << 2
    RAPL_DISABLED = 1 << 3
    CIPHERTEXT_HIDING = 1 << 4
    ALIAS_CHECK_COMPLETE = 1 << 5
    TRUSTED_IO = 1 << 7


@dataclass(frozen=True)
class Report:
    """A report, decoded; nothing of it is verified.

    Attributes:
        cpuid: family, model and stepping; of version 2, which has none, zeros.
        current_version, committed_version: of the SNP firmware: major, minor, build.
        mitigations: the launch's and the current mitigation vector; zeros before version 4.
        signed: the bytes under the signature.
        signature: R and S.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    platform_info: int
    author_key: bool
    mask_chip_key: bool
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    current_tcb: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    launch_tcb: bytes
    cpuid: tuple[int, int, int]
    chip_id: bytes
    current_version: tuple[int, int, int]
    committed_version: tuple[int, int, int]
    mitigations: tuple[int, int]
    signed: bytes = field(repr=False)
    signature: tuple[int, int] = field(repr=False)

    @property
    def abi(self) -> tuple[int, int]:
        """The oldest firmware the guest's owner allowed: major, minor."""
        return self.policy >> 8 & 0xFF, self.policy & 0xFF

    @property
    def policy_bits(self) -> PolicyBit:
        """The bits of the guest policy."""
        return PolicyBit(self.policy & ~0xFFFF)

    @property
    def platform_bits(self) -> PlatformBit:
        """The bits of the platform information, known and unknown."""
        return PlatformBit(self.platform_info)

    @property
    def chip_id_masked(self) -> bool:
        """Whether the host lets its chips stay anonymous."""
        return not any(self.chip_id)

    @property
    def has_migration_agent(self) -> bool:
        """Whether another guest may migrate this one."""
        return self.report_id_ma != _NO_AGENT

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """Decode a report.

        Raises:
            MalformedEvidence: another length, a reserved byte or bit that is set, a value that the
                specification does not define.
            Refused: of a version or signed by an algorithm that is not known, or not signed.
        """
        if len(data) != LENGTH:
            raise MalformedEvidence(f"SNP report: {len(data)} bytes, not {LENGTH}")
        version = _u32(data, 0x000)
        if version not in VERSIONS:
            raise Refused(Code.SNP_VERSION_UNSUPPORTED, f"an SNP report of version {version}")
        _check_zeros(data, version)
        if _u32(data, 0x034) != ECDSA_P384_SHA384:
            raise Refused(Code.SNP_ALGORITHM_UNSUPPORTED, "not signed by ECDSA P-384 with SHA-384")
        key_information = _u32(data, 0x048)
        return cls(
            version=version,
            guest_svn=_u32(data, 0x004),
            policy=_policy(data),
            family_id=data[0x010:0x020],
            image_id=data[0x020:0x030],
            vmpl=_vmpl(data),
            platform_info=_u64(data, 0x040),
            author_key=bool(key_information & 1),
            mask_chip_key=bool(key_information & 2),
            signing_key=_signing_key(key_information),
            report_data=data[0x050:0x090],
            measurement=data[0x090:0x0C0],
            host_data=data[0x0C0:0x0E0],
            id_key_digest=data[0x0E0:0x110],
            author_key_digest=data[0x110:0x140],
            report_id=data[0x140:0x160],
            report_id_ma=data[0x160:0x180],
            current_tcb=data[0x038:0x040],
            reported_tcb=data[0x180:0x188],
            committed_tcb=data[0x1E0:0x1E8],
            launch_tcb=data[0x1F0:0x1F8],
            cpuid=(data[0x188], data[0x189], data[0x18A]),
            chip_id=data[0x1A0:0x1E0],
            current_version=(data[0x1EA], data[0x1E9], data[0x1E8]),
            committed_version=(data[0x1EE], data[0x1ED], data[0x1EC]),
            mitigations=(_u64(data, 0x1F8), _u64(data, 0x200)),
            signed=data[:SIGNED],
            signature=(_scalar(data, SIGNED), _scalar(data, SIGNED + _SCALAR_FIELD)),
        )


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _check_zeros(data: bytes, version: int) -> None:
    reserved = (
        (0x04C, 0x050),
        (0x18B if version >= 3 else 0x188, 0x1A0),
        (0x1EB, 0x1EC),
        (0x1EF, 0x1F0),
        (0x208 if version >= 4 else 0x1F8, SIGNED),
        (SIGNED + 2 * _SCALAR_FIELD, LENGTH),
    )
    for start, end in reserved:
        if any(data[start:end]):
            raise MalformedEvidence(f"SNP report: a reserved byte from {start:#x} is not zero")


def _policy(data: bytes) -> int:
    policy = _u64(data, 0x008)
    if not policy & PolicyBit.MUST_BE_ONE or policy >> 26:
        raise MalformedEvidence("SNP report: a reserved bit of the policy is not as it must be")
    return policy


def _vmpl(data: bytes) -> int:
    vmpl = _u32(data, 0x030)
    if vmpl > 3 and vmpl != HOST_REQUESTED:
        raise MalformedEvidence("SNP report: no such VMPL")
    return vmpl


def _signing_key(key_information: int) -> SigningKey:
    if key_information >> 5:
        raise MalformedEvidence("SNP report: a reserved bit of the key information is set")
    try:
        key = SigningKey(key_information >> 2)
    except ValueError as error:
        raise MalformedEvidence("SNP report: no such signing key") from error
    if key is SigningKey.NONE:
        raise Refused(Code.SNP_UNSIGNED, "the firmware was set not to sign reports")
    return key


def _scalar(data: bytes, at: int) -> int:
    if any(data[at + _SCALAR : at + _SCALAR_FIELD]):
        raise MalformedEvidence("SNP report: a signature longer than P-384's")
    return int.from_bytes(data[at : at + _SCALAR], "little")
