"""What a client demands of an authentic SNP report. The default is strict, save where it says so.

The minimum TCBs are those under which the flaws are mended that AMD's bulletins name, for the
component by which a report shows it: Milan AMD-SB-3030, Genoa AMD-SB-3034, Turin AMD-SB-3020.
Newer bulletins raise them: keep your own in the policy file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from attestation.errors import Code, Refused
from attestation.verifier.amd.claims import SnpClaims
from attestation.verifier.amd.product import COMPONENTS, Product
from attestation.verifier.amd.report import PlatformBit, PolicyBit, SigningKey

MINIMUM_TCB: Mapping[str, int] = MappingProxyType(
    {"milan.snp": 0x1D, "genoa.snp": 0x1C, "turin.snp": 0x04}
)
_TCB_CODES = {
    "reported": Code.SNP_REPORTED_TCB_TOO_OLD,
    "committed": Code.SNP_COMMITTED_TCB_TOO_OLD,
    "current": Code.SNP_CURRENT_TCB_TOO_OLD,
    "launch": Code.SNP_LAUNCH_TCB_TOO_OLD,
}
_COMPONENTS = frozenset(
    f"{product}.{name}" for product, names in COMPONENTS.items() for name in names
)

Rule = tuple[bool, Code, str]
"""Whether it holds, and what to refuse with if it does not."""


def _minimum() -> Mapping[str, int]:
    return MINIMUM_TCB


@dataclass(frozen=True)
class SnpPolicy:
    """What is demanded. A field that accepts something is false, one that demands something is set.

    Attributes:
        products: the lines of processors, by their names.
        min_report_version: of the report's format.
        debug: accept a guest whose memory the host may decrypt.
        migration_agent: accept a guest that another guest may migrate.
        smt: accept a guest that may share a core with others. Every cloud's does: accepted.
        several_sockets: accept a guest that may be spread over sockets. Likewise accepted.
        cxl: accept memory that is attached by CXL.
        min_abi_major, min_abi_minor: of the firmware the guest's owner allowed it to run on.
        max_vmpl: the least privileged level that may have asked for the report.
        min_guest_svn: of the guest's own security version.
        min_reported_tcb: the least version of a component, by `product.component`. The signing key
            proves it.
        min_committed_tcb: likewise, of what the machine cannot go back behind.
        min_current_tcb: likewise, of what runs.
        min_launch_tcb: likewise, of what the guest was launched under.
        provisional_firmware: accept firmware that is tried out and not committed.
        vlek: accept a signature that proves no particular chip.
        providers: the providers whose VLEKs are accepted; empty: any.
        masked_chip_id: accept a report that keeps quiet which chip it is of.
        tsme, ecc, rapl_disabled, ciphertext_hiding, alias_check: demand that the machine has
            it: all memory encrypted, error correction, no power meter, ciphertexts hidden from
            the host, memory checked for aliases.
        id_keys: SHA-384 of the keys that may sign a guest's identity, hex; empty: any, or none.
        author_keys: likewise of those that may certify such keys.
        crl: demand the revocation list.
        max_crl_age_s: how old it may be. AMD issues it once a year.

    Raises:
        ValueError: (on construction) a product, component, digest or version that cannot be.
    """

    products: frozenset[str] = frozenset(map(str, Product))
    min_report_version: int = 2
    debug: bool = False
    migration_agent: bool = False
    smt: bool = True
    several_sockets: bool = True
    cxl: bool = False
    min_abi_major: int = 0
    min_abi_minor: int = 0
    max_vmpl: int = 0
    min_guest_svn: int = 0
    min_reported_tcb: Mapping[str, int] = field(default_factory=_minimum)
    min_committed_tcb: Mapping[str, int] = field(default_factory=_minimum)
    min_current_tcb: Mapping[str, int] = field(default_factory=_minimum)
    min_launch_tcb: Mapping[str, int] = field(default_factory=_minimum)
    provisional_firmware: bool = False
    vlek: bool = False
    providers: frozenset[str] = frozenset()
    masked_chip_id: bool = False
    tsme: bool = False
    ecc: bool = False
    rapl_disabled: bool = False
    ciphertext_hiding: bool = False
    alias_check: bool = False
    id_keys: frozenset[str] = frozenset()
    author_keys: frozenset[str] = frozenset()
    crl: bool = True
    max_crl_age_s: int = 400 * 86400

    def __post_init__(self) -> None:
        for product in self.products:
            Product(product)
        for name, minimum in self._minimums().items():
            if not minimum.keys() <= _COMPONENTS:
                raise ValueError(f"min_{name}_tcb names a component that no processor has")
            if not all(0 <= version <= 255 for version in minimum.values()):
                raise ValueError(f"min_{name}_tcb states a version that cannot be")
        for digest in self.id_keys | self.author_keys:
            if len(bytes.fromhex(digest)) != 48 or digest != digest.lower():
                raise ValueError("a key is stated as the hex of its SHA-384")

    def check(self, claims: SnpClaims, *, at: int) -> str:
        """Check authentic claims at unix time `at`; return the reason why they will do.

        Raises:
            Refused: with the code of the first rule that does not hold.
        """
        for holds, code, reason in self._rules(claims, at):
            if not holds:
                raise Refused(code, reason)
        components = ", ".join(
            f"{name} {version}" for name, version in claims.endorsement.tcb.components.items()
        )
        return f"{claims.product} with {components}, as the policy demands"

    def explain(self) -> tuple[str, ...]:
        """Return what is demanded, one sentence a rule."""
        return tuple(self._sentences())

    def _minimums(self) -> dict[str, Mapping[str, int]]:
        return {
            "reported": self.min_reported_tcb,
            "committed": self.min_committed_tcb,
            "current": self.min_current_tcb,
            "launch": self.min_launch_tcb,
        }

    def _rules(self, claims: SnpClaims, at: int) -> Iterator[Rule]:
        report = claims.report
        yield (
            claims.product in self.products,
            Code.SNP_PRODUCT_REFUSED,
            f"the policy does not accept {claims.product}",
        )
        yield (
            report.version >= self.min_report_version,
            Code.SNP_REPORT_VERSION_TOO_OLD,
            f"a report of version {report.version}, not {self.min_report_version} or later",
        )
        yield from self._guest_rules(claims)
        yield from self._key_rules(claims)
        yield from self._firmware_rules(claims)
        yield from self._platform_rules(claims)
        yield from self._crl_rules(claims, at)

    def _guest_rules(self, claims: SnpClaims) -> Iterator[Rule]:
        report, bits = claims.report, claims.report.policy_bits
        platform = report.platform_bits
        smt = PolicyBit.SMT in bits or PlatformBit.SMT in platform
        agent = PolicyBit.MIGRATION_AGENT in bits or report.has_migration_agent
        yield (
            self.debug or PolicyBit.DEBUG not in bits,
            Code.SNP_DEBUG,
            "the host may debug the guest, and so read its memory",
        )
        yield (
            self.migration_agent or not agent,
            Code.SNP_MIGRATION_AGENT,
            "a migration agent may move the guest",
        )
        yield self.smt or not smt, Code.SNP_SMT, "the guest may share a core with others"
        yield (
            self.several_sockets or PolicyBit.SINGLE_SOCKET in bits,
            Code.SNP_SEVERAL_SOCKETS,
            "the guest may be spread over sockets",
        )
        yield self.cxl or PolicyBit.CXL not in bits, Code.SNP_CXL, "CXL memory is allowed"
        yield (
            report.abi >= (self.min_abi_major, self.min_abi_minor),
            Code.SNP_ABI_TOO_OLD,
            "the guest may run on firmware of version {}.{}".format(*report.abi),
        )
        yield (
            report.vmpl <= self.max_vmpl,
            Code.SNP_VMPL,
            f"asked for at VMPL {report.vmpl}, above {self.max_vmpl}",
        )
        yield (
            report.guest_svn >= self.min_guest_svn,
            Code.SNP_GUEST_SVN_TOO_OLD,
            f"the guest's security version is {report.guest_svn}",
        )

    def _key_rules(self, claims: SnpClaims) -> Iterator[Rule]:
        report, provider = claims.report, claims.endorsement.provider
        is_vlek = report.signing_key is SigningKey.VLEK
        author = report.author_key_digest.hex() if report.author_key else ""
        yield (
            self.vlek or not is_vlek,
            Code.SNP_VLEK,
            "signed by a provider's key, which proves no particular chip",
        )
        yield (
            not is_vlek or not self.providers or provider in self.providers,
            Code.SNP_CSP_REFUSED,
            f"the policy does not accept the provider {provider!r}",
        )
        yield (
            is_vlek or self.masked_chip_id or not report.chip_id_masked,
            Code.SNP_CHIP_ID_MASKED,
            "the report keeps quiet which chip it is of",
        )
        yield (
            not self.id_keys or report.id_key_digest.hex() in self.id_keys,
            Code.SNP_ID_KEY_REFUSED,
            "the guest's identity is not signed by a key that the policy names",
        )
        yield (
            not self.author_keys or author in self.author_keys,
            Code.SNP_AUTHOR_KEY_REFUSED,
            "the guest's author is not one that the policy names",
        )

    def _firmware_rules(self, claims: SnpClaims) -> Iterator[Rule]:
        report, tcbs = claims.report, claims.tcbs
        for name, minimum in self._minimums().items():
            for component, version in tcbs[name].components.items():
                least = minimum.get(f"{claims.product}.{component}", 0)
                yield (
                    version >= least,
                    _TCB_CODES[name],
                    f"the {name} TCB has {component} {version}, below {least}",
                )
        yield (
            self.provisional_firmware or report.current_version == report.committed_version,
            Code.SNP_PROVISIONAL_FIRMWARE,
            "the firmware is being tried out: it is not committed",
        )

    def _platform_rules(self, claims: SnpClaims) -> Iterator[Rule]:
        bits = claims.report.platform_bits
        for demanded, bit, code, what in (
            (self.tsme, PlatformBit.TSME, Code.SNP_TSME_OFF, "encrypts all memory"),
            (self.ecc, PlatformBit.ECC, Code.SNP_ECC_OFF, "has error correction"),
            (self.rapl_disabled, PlatformBit.RAPL_DISABLED, Code.SNP_RAPL_ON, "hides its power"),
            (
                self.ciphertext_hiding,
                PlatformBit.CIPHERTEXT_HIDING,
                Code.SNP_CIPHERTEXT_HIDING_OFF,
                "hides ciphertexts",
            ),
            (
                self.alias_check,
                PlatformBit.ALIAS_CHECK_COMPLETE,
                Code.SNP_ALIAS_CHECK_MISSING,
                "has checked its memory for aliases",
            ),
        ):
            yield not demanded or bit in bits, code, f"the machine does not say that it {what}"

    def _crl_rules(self, claims: SnpClaims, at: int) -> Iterator[Rule]:
        issued_at = claims.crl_issued_at
        yield (
            issued_at is not None or not self.crl,
            Code.SNP_CRL_MISSING,
            "without AMD's revocation list nobody knows whether the chain is revoked",
        )
        yield (
            issued_at is None or at - issued_at <= self.max_crl_age_s,
            Code.SNP_CRL_TOO_OLD,
            f"AMD's revocation list is older than {self.max_crl_age_s} s",
        )

    def _sentences(self) -> Iterator[str]:
        yield f"The processor is one of {_list(self.products)}."
        yield f"The report is of version {self.min_report_version} or later."
        yield _sentence("The host may debug the guest", accepted=self.debug)
        yield _sentence("A migration agent may move the guest", accepted=self.migration_agent)
        yield _sentence("The guest may share a core with others (SMT)", accepted=self.smt)
        yield _sentence("The guest may be spread over sockets", accepted=self.several_sockets)
        yield _sentence("Memory may be attached by CXL", accepted=self.cxl)
        yield f"The guest demands firmware {self.min_abi_major}.{self.min_abi_minor} or later."
        yield f"The report was asked for at VMPL {self.max_vmpl} or a more privileged one."
        yield f"The guest's security version is {self.min_guest_svn} or higher."
        for name, minimum in self._minimums().items():
            least = (f"{component} {version}" for component, version in sorted(minimum.items()))
            yield f"The {name} TCB is at least {_list(least)}."
        yield _sentence("Firmware may be provisional", accepted=self.provisional_firmware)
        yield _sentence("The signature may be a provider's (VLEK)", accepted=self.vlek)
        yield f"Such a provider is {_list(self.providers) or 'any'}."
        yield _sentence("The chip's id may be masked", accepted=self.masked_chip_id)
        for demanded, what in (
            (self.tsme, "encrypts all memory (TSME)"),
            (self.ecc, "has error correction"),
            (self.rapl_disabled, "hides its power consumption (RAPL disabled)"),
            (self.ciphertext_hiding, "hides ciphertexts from the host"),
            (self.alias_check, "has checked its memory for aliases"),
        ):
            yield f"The machine {what}: {'demanded' if demanded else 'not demanded'}."
        yield f"The guest's id key is {_list(self.id_keys) or 'any or none'}."
        yield f"The guest's author key is {_list(self.author_keys) or 'any or none'}."
        yield f"AMD's revocation list is {'demanded' if self.crl else 'not demanded'}."
        yield f"It is at most {self.max_crl_age_s} s old."


def _sentence(what: str, *, accepted: bool) -> str:
    return f"{what}: {'accepted' if accepted else 'refused'}."


def _list(items: Iterator[str] | frozenset[str]) -> str:
    return ", ".join(sorted(items))
