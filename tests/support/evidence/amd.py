"""SYNTHESISED: SNP machines of every line under a root of the tests', able to lie in one respect.

Reports and certificates are of AMD's formats; no processor made them, and AMD signed none.
"""

from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.evidence.authority import (
    PSS_SHA384,
    ca_extensions,
    ec_key,
    opaque,
    root,
    rsa_key,
    tlv,
)

ARC = "1.3.6.1.4.1.3704.1"
PSS = {"rsa_padding": PSS_SHA384}
CHIP = bytes(range(1, 65))
CPUID = {"Milan": (0x19, 0x01, 1), "Genoa": (0x19, 0x11, 1), "Turin": (0x1A, 0x02, 1)}
TCB = {
    "Milan": bytes([4, 0, 0, 0, 0, 0, 0x1D, 0xDB]),
    "Genoa": bytes([10, 0, 0, 0, 0, 0, 0x1C, 0x56]),
    "Turin": bytes([1, 2, 3, 4, 0, 0, 0, 0x51]),
}
EXTENSIONS = {
    "Milan": (1, 2, 4, 5, 6, 7, 3, 8),
    "Genoa": (1, 2, 4, 5, 6, 7, 3, 8),
    "Turin": (9, 1, 2, 3, 5, 6, 7, 8),
}
STEPPINGS = {"Milan": "Milan-B0", "Genoa": "Genoa", "Turin": "Turin-B0"}


def integer(value):
    """DER of a number from 0 to 255."""
    return tlv(2, (b"\x00" if value > 127 else b"") + bytes([value]))


@dataclass
class SnpMachine:
    """One machine, honest as it is made.

    Attributes:
        line: Milan, Genoa or Turin.
        version: of the report's format.
        vlek: whether a provider's key signs.
        extensions: changes to the leaf's extensions, by the OID's end: bytes, or None to leave out.
        report: changes to the report before it is signed: offset to bytes.
        names: common names of leaf, intermediate and root.
        leaf, intermediate: options of their certificates.
    """

    line: str = "Milan"
    version: int = 3
    vlek: bool = False
    report_data: bytes = bytes(64)
    extensions: dict = field(default_factory=dict)
    report: dict = field(default_factory=dict)
    names: tuple = ()
    leaf: dict = field(default_factory=dict)
    intermediate: dict = field(default_factory=dict)

    @property
    def common_names(self):
        if self.names:
            return self.names
        vlek = "VLEK-" if self.vlek else ""
        leaf = "SEV-VLEK" if self.vlek else "SEV-VCEK"
        return leaf, f"SEV-{vlek}{self.line}", f"ARK-{self.line}"

    @property
    def chip_id(self):
        return (
            bytes(64) if self.vlek else CHIP[: 8 if self.line == "Turin" else 64].ljust(64, b"\0")
        )

    @property
    def tcb(self):
        return TCB[self.line]

    @cached_property
    def ark(self):
        return root(self.common_names[2], rsa_key("ark"), serial=0x10000, **PSS)

    @cached_property
    def ask(self):
        options = {"serial": 0x10001, "extensions": ca_extensions(path_length=0, crl_sign=False)}
        return self.ark.issue(
            self.common_names[1], rsa_key("ask"), **PSS, **options | self.intermediate
        )

    @cached_property
    def key_certificate(self):
        values = {"1": integer(0), "2": tlv(0x16, STEPPINGS[self.line].encode())}
        for number, value in zip(EXTENSIONS[self.line], self.tcb, strict=True):
            values[f"3.{number}"] = integer(value)
        values |= {"5": tlv(0x16, b"Tests")} if self.vlek else {"4": self.chip_id.rstrip(b"\0")}
        values |= self.extensions
        extensions = [
            opaque(f"{ARC}.{end}", value) for end, value in values.items() if value is not None
        ]
        options = {"serial": 0, "key": ec_key("vcek"), "extensions": extensions} | self.leaf
        return self.ask.issue(self.common_names[0], **PSS, **options)

    @property
    def chain(self):
        """The chain as collateral has it."""
        return self.key_certificate.pem + self.ask.pem + self.ark.pem

    @property
    def roots(self):
        return frozenset({self.ark.fingerprint})

    def crl(self, revoked=(), **options):
        return self.ark.crl(revoked, **PSS, **options)

    def signed_part(self):
        """The bytes to be signed: `report` changed last."""
        part = bytearray(0x2A0)
        put = {
            0x000: self.version.to_bytes(4, "little"),
            0x008: (0x3001F).to_bytes(8, "little"),
            0x034: b"\x01",
            0x038: self.tcb,
            0x040: b"\x25",
            0x048: bytes([0b100 if self.vlek else 0]),
            0x050: self.report_data,
            0x090: b"\x4d" * 48,
            0x140: b"\x52" * 32,
            0x160: b"\xff" * 32,
            0x180: self.tcb,
            0x188: bytes(CPUID[self.line]) if self.version > 2 else b"",
            0x1A0: self.chip_id,
            0x1E0: self.tcb,
            0x1E8: bytes([40, 55, 1, 0]) * 2,
            0x1F0: self.tcb,
            0x1F8: b"\x07" if self.version > 4 else b"",
        }
        for offset, value in (put | self.report).items():
            part[offset : offset + len(value)] = value
        return bytes(part)

    def quote(self, report_data=None):
        """The report, signed; over other report data, if that is given."""
        if report_data is not None:
            self.report_data = report_data
        return self.sign(self.signed_part())

    def sign(self, part):
        der = ec_key("vcek").sign(part, ec.ECDSA(hashes.SHA384()))
        r, s = (number.to_bytes(72, "little") for number in decode_dss_signature(der))
        return part + r + s + bytes(512 - 144)
