"""SYNTHESISED Intel evidence: quotes and collateral under a root of the tests' own.

No processor made any of it. The formats are Intel's (DCAP quotes, PCK certificates, collateral
version 3); every key is derived from a name written here. A node is honest as it is made, and can
be made to lie in one respect at a time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attestation.verifier.intel import quote as layout
from attestation.verifier.intel.claims import IntelClaims
from attestation.verifier.intel.quote import EnclaveReport, TdReport
from attestation.verifier.intel.verify import verify
from tests.support.evidence.authority import ca_extensions, date, tlv

NOW = 1_800_000_000
DAY = 24 * 3600
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
FMSPC = bytes.fromhex("70707e570000")
QE_SIGNER = hashlib.sha256(b"the signer of the tests' quoting enclave").digest()
SIGNER_OF = {
    "root": "root",
    "pck_ca": "root",
    "tcb_signer": "root",
    "root_crl": "root",
    "pck": "pck_ca",
    "pck_crl": "pck_ca",
    "tcb_info": "tcb_signer",
    "qe_identity": "tcb_signer",
    "qe_report": "pck",
    "quote": "attestation",
}
"""Which key signs what, where nothing is forged."""

SERIAL_NUMBERS = {"root": 1, "pck_ca": 2, "tcb_signer": 3, "pck": 4}


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    secret = int.from_bytes(hashlib.sha256(b"sottovoce test key " + name.encode()).digest(), "big")
    curve = ec.SECP384R1() if name.endswith("P-384") else ec.SECP256R1()
    return ec.derive_private_key(secret % (ORDER - 1) + 1, curve)


def point(name: str) -> bytes:
    return key(name).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def raw_signature(name: str, message: bytes) -> bytes:
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key(name).sign(message, algorithm))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def oid(*last: int) -> bytes:
    """The identifier below Intel's SGX extensions, 1.2.840.113741.1.13.1."""
    return tlv(0x06, bytes.fromhex("2a864886f84d010d01") + bytes(last))


def member(number: tuple[int, ...], value: bytes) -> bytes:
    return sequence(oid(*number), value)


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, b"".join(parts))


def iso(seconds: int) -> str:
    return date(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sottovoce tests, {common}")])


def level(status: str = "UpToDate", **changes: object) -> dict:
    """A level of TCB info that the honest platform meets."""
    tcb = {
        "sgxtcbcomponents": [{"svn": 3}] * 16,
        "pcesvn": 13,
        "tdxtcbcomponents": [{"svn": svn} for svn in (5, 0, 2, *[0] * 13)],
    } | changes
    return {"tcb": tcb, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": status}


def isv_level(isvsvn: int, status: str = "UpToDate") -> dict:
    return {"tcb": {"isvsvn": isvsvn}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": status}


@dataclass
class IntelNode:
    """One platform and what runs on it.

    Attributes:
        version: of the quote: 3 is an SGX enclave, 4 and 5 a trust domain.
        body: the type of a version 5 quote's body.
        forged: what a key signs that should not: names of `SIGNER_OF`.
        dates: validity of certificates, lists and statements, by the same names.
        report, qe_report: members of the reports that differ.
        pck: what the PCK certificate states of the platform.
        tcb_info, qe_identity: members of the statements that differ.
        revoked: names of certificates that are revoked.
        certification_type: of the quote's certification data.
        pck_chain: names of the certificates in the quote.
        padding: what stands behind the quote.
        collateral_changes: members of the collateral that differ.
        public_keys: names of the keys for which certificates stand, where not their own.
        attestation_key: x and y that the quote names, if not the honest ones.
    """

    version: int = 4
    body: int = 3
    forged: frozenset[str] = frozenset()
    dates: dict = field(default_factory=dict)
    report: dict = field(default_factory=dict)
    qe_report: dict = field(default_factory=dict)
    pck: dict = field(default_factory=dict)
    tcb_info: dict = field(default_factory=dict)
    qe_identity: dict = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    certification_type: int = layout.PCK_CHAIN
    pck_chain: tuple[str, ...] = ("pck", "pck_ca", "root")
    padding: bytes = b""
    collateral_changes: dict = field(default_factory=dict)
    public_keys: dict = field(default_factory=dict)
    attestation_key: bytes = b""

    def verify(self, *, at: int = NOW, roots: frozenset[bytes] | None = None) -> IntelClaims:
        """Verify this node's quote under its own root."""
        roots = frozenset({self.root}) if roots is None else roots
        return verify(self.quote(), self.collateral(), roots=roots, at=at)

    # Certificates and lists

    def signing_key(self, link: str) -> str:
        return "a stranger" if link in self.forged else SIGNER_OF[link]

    def validity(self, link: str, before: int = 400 * DAY, after: int = 4000 * DAY) -> tuple:
        return self.dates.get(link, (NOW - before, NOW + after))

    @property
    def root(self) -> bytes:
        """The fingerprint of this node's root."""
        return self.certificate("root").fingerprint(hashes.SHA256())

    def certificate(self, link: str) -> x509.Certificate:
        begin, end = (date(at) for at in self.validity(link))
        is_ca = link in {"root", "pck_ca"}
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(link))
            .issuer_name(name(SIGNER_OF[link]))
            .public_key(key(self.public_keys.get(link, link)).public_key())
            .serial_number(SERIAL_NUMBERS[link])
            .not_valid_before(begin)
            .not_valid_after(end)
        )
        for value, critical in ca_extensions() if is_ca else ():
            builder = builder.add_extension(value, critical)
        if link == "pck":
            builder = builder.add_extension(self.sgx_extension(), critical=False)
        return builder.sign(key(self.signing_key(link)), hashes.SHA256(), ecdsa_deterministic=True)

    def sgx_extension(self) -> x509.UnrecognizedExtension:
        state = {"fmspc": FMSPC, "cpu_svn": bytes([3] * 16), "pce_svn": 13, "dynamic": True}
        state |= self.pck
        parts = [
            member((1,), tlv(0x04, bytes(16))),
            member((2,), sequence(*tcb_members(state["cpu_svn"], state["pce_svn"]))),
            member((3,), tlv(0x04, bytes(2))),
            member((4,), tlv(0x04, state["fmspc"])),
            member((5,), tlv(0x0A, b"\x01")),
        ]
        if state["dynamic"] is not None:
            flag = tlv(0x01, b"\xff" if state["dynamic"] else b"\x00")
            flags = [member((7, number), flag) for number in (1, 2, 3)]
            parts += [member((6,), tlv(0x04, bytes(16))), member((7,), sequence(*flags))]
        identifier = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
        return x509.UnrecognizedExtension(identifier, sequence(*parts))

    def chain(self, *links: str) -> str:
        return "".join(self.certificate(link).public_bytes(Encoding.PEM).decode() for link in links)

    def crl(self, link: str, *of: str) -> bytes:
        begin, end = self.validity(link, DAY, 29 * DAY)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(name(SIGNER_OF[link]))
            .last_update(date(begin))
            .next_update(date(end))
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for revoked in sorted(self.revoked.intersection(of)):
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(SERIAL_NUMBERS[revoked])
                .revocation_date(date(begin))
            )
            builder = builder.add_revoked_certificate(entry.build())
        signer = key(self.signing_key(link))
        signed = builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)

    # Statements and collateral

    @property
    def is_sgx(self) -> bool:
        return self.version == 3

    def statement(self, link: str, members: dict) -> dict:
        begin, end = self.validity(link, DAY, 29 * DAY)
        dates = {"issueDate": iso(begin), "nextUpdate": iso(end)}
        text = json.dumps(dates | {"tcbEvaluationDataNumber": 18} | members)
        return {
            link: text,
            f"{link}_signature": raw_signature(self.signing_key(link), text.encode()).hex(),
            f"{link}_issuer_chain": self.chain("tcb_signer", "root"),
        }

    def tcb_statement(self) -> dict:
        members = {
            "id": "SGX" if self.is_sgx else "TDX",
            "version": 3,
            "fmspc": FMSPC.hex().upper(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbLevels": [level()],
        }
        if not self.is_sgx:
            module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
            levels = [isv_level(5), isv_level(3, "OutOfDate")]
            members |= {
                "tdxModule": module,
                "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": levels}],
            }
        return self.statement("tcb_info", members | self.tcb_info)

    def qe_statement(self) -> dict:
        members = {
            "id": "QE" if self.is_sgx else "TD_QE",
            "version": 2,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15,
            "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": 2,
            "tcbLevels": [isv_level(4), isv_level(2, "OutOfDate")],
        }
        return self.statement("qe_identity", members | self.qe_identity)

    def collateral(self) -> bytes:
        members = {
            "pck_crl_issuer_chain": self.chain("pck_ca", "root"),
            "root_ca_crl": self.crl("root_crl", "root", "pck_ca", "tcb_signer").hex(),
            "pck_crl": self.crl("pck_crl", "pck").hex(),
            **self.tcb_statement(),
            **self.qe_statement(),
        }
        return json.dumps(members | self.collateral_changes).encode()

    # The quote

    def signed(self) -> bytes:
        tee = layout.SGX if self.is_sgx else layout.TDX
        header = b"".join(number.to_bytes(2, "little") for number in (self.version, 2))
        header += tee.to_bytes(4, "little") + bytes(4) + layout._INTEL + bytes(20)
        body = report_bytes(self.report_kind, HONEST_TD | self.report)
        if self.version == 5:
            header += self.body.to_bytes(2, "little") + len(body).to_bytes(4, "little")
        return header + body

    @property
    def report_kind(self) -> type:
        if self.is_sgx:
            return EnclaveReport
        return TdReport if self.version == 4 else layout._BODIES[self.body]

    @property
    def named_key(self) -> bytes:
        return self.attestation_key or point("attestation")

    def quoting_enclave(self) -> bytes:
        authentication = bytes(range(32))
        binding = hashlib.sha256(self.named_key + authentication).digest()
        members = {
            "attributes": bytes.fromhex("1500000000000000e700000000000000"),
            "mr_signer": QE_SIGNER,
            "isv_prod_id": b"\x02\x00",
            "isv_svn": b"\x06\x00",
            "report_data": binding + bytes(32),
        }
        report = report_bytes(EnclaveReport, members | self.qe_report)
        certificates = self.chain(*self.pck_chain).encode() + b"\x00" * bool(self.pck_chain)
        return b"".join(
            [
                *(report, raw_signature(self.signing_key("qe_report"), report)),
                *(len(authentication).to_bytes(2, "little"), authentication),
                self.certification_type.to_bytes(2, "little"),
                *(len(certificates).to_bytes(4, "little"), certificates),
            ]
        )

    def quote(self) -> bytes:
        signed, certification = self.signed(), self.quoting_enclave()
        if not self.is_sgx:
            length = len(certification).to_bytes(4, "little")
            certification = b"\x06\x00" + length + certification
        signature = raw_signature(self.signing_key("quote"), signed)
        data = signature + self.named_key + certification
        return signed + len(data).to_bytes(4, "little") + data + self.padding


HONEST_TD = {
    "tee_tcb_svn": bytes([5, 1, 2, *[0] * 13]),
    "tee_tcb_svn2": bytes([5, 1, 2, *[0] * 13]),
    "td_attributes": bytes.fromhex("0000001000000000"),
    "xfam": bytes.fromhex("e702060000000000"),
    "mr_td": b"\xd0" * 48,
    **{f"rt_mr{index}": bytes([0xA0 + index]) * 48 for index in range(4)},
    "report_data": b"\x5a" * 64,
    "mr_enclave": b"\xe0" * 32,
    "attributes": bytes.fromhex("0500000000000000e700000000000000"),
}


def report_bytes(kind: type, members: dict) -> bytes:
    """A report of honest length, zeros where nothing is said."""
    parts = []
    for each in fields(kind):
        length = layout._LENGTHS.get(each.name, layout._MEASUREMENT)
        parts.append(members.get(each.name, bytes(length)).ljust(length, b"\x00"))
    return b"".join(parts)


def tcb_members(cpu_svn: bytes, pce_svn: int) -> list[bytes]:
    components = [
        member((2, number), tlv(0x02, bytes([svn]))) for number, svn in enumerate(cpu_svn, 1)
    ]
    return [
        *components,
        member((2, 17), tlv(0x02, bytes([pce_svn]))),
        member((2, 18), tlv(0x04, cpu_svn)),
    ]
