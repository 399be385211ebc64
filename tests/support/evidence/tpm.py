"""SYNTHESISED: a TPM made of software, with logs, CAs and clouds, able to lie in one respect.

No TPM made any of it. Structures are those of TPM 2.0 Part 2, the PC Client Platform Firmware
Profile, Azure's HCL report and Google's protobuf message; keys and roots are the tests' own.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.verifier.tpm.evidence import TpmEvidence
from tests.support.evidence.amd import SnpMachine
from tests.support.evidence.authority import ca_extensions, ec_key, opaque, root, rsa_key, tlv

NOW = 1_800_000_000
SHA1, SHA256, SHA384, SHA512, NULL = 4, 11, 12, 13, 16
RSASSA, RSAPSS, ECDSA = 0x14, 0x16, 0x18
RSA, ECC = 1, 0x23
NAMES = {SHA1: "sha1", SHA256: "sha256", SHA384: "sha384", SHA512: "sha512"}
DIGESTS = {SHA1: hashes.SHA1(), SHA256: hashes.SHA256(), SHA384: hashes.SHA384()}
AK_ATTRIBUTES = 0x00050072
AK_USAGE, EK_USAGE = "2.23.133.8.3", "2.23.133.8.1"
EXTRA_DATA = hashlib.sha256(b"what is bound").digest()


def u(value, length, order="big"):
    return value.to_bytes(length, order)


def tpm2b(data):
    return u(len(data), 2) + data


# Keys


@dataclass(frozen=True)
class Key:
    """A key in the TPM: its scheme, and attributes that may be those of no attestation key."""

    private: object = field(default_factory=lambda: ec_key("attestation", ec.SECP256R1()))
    scheme: int = ECDSA
    digest: int = SHA256
    attributes: int = AK_ATTRIBUTES
    name_algorithm: int = SHA256
    symmetric: bytes = u(NULL, 2)
    own_scheme: bytes | None = None
    exponent: int = 0

    @property
    def public_key(self):
        return self.private.public_key()

    @property
    def public(self):
        """TPMT_PUBLIC."""
        numbers = self.public_key.public_numbers()
        scheme = u(self.scheme, 2) + u(self.digest, 2)
        scheme = scheme if self.own_scheme is None else self.own_scheme
        if isinstance(self.private, rsa.RSAPrivateKey):
            kind, size = RSA, self.public_key.key_size
            unique = u(size, 2) + u(self.exponent, 4) + tpm2b(u(numbers.n, size // 8))
        else:
            kind, size = ECC, (self.public_key.key_size + 7) // 8
            curve = {32: 3, 48: 4}[size]
            unique = (
                u(curve, 2) + u(NULL, 2) + tpm2b(u(numbers.x, size)) + tpm2b(u(numbers.y, size))
            )
        head = u(kind, 2) + u(self.name_algorithm, 2) + u(self.attributes, 4) + tpm2b(b"")
        return head + self.symmetric + scheme + unique

    @property
    def name(self):
        digest = hashlib.new(NAMES[self.name_algorithm], self.public).digest()
        return u(self.name_algorithm, 2) + digest

    def sign(self, message):
        """TPMT_SIGNATURE."""
        digest = DIGESTS[self.digest]
        head = u(self.scheme, 2) + u(self.digest, 2)
        if self.scheme == ECDSA:
            der = self.private.sign(message, ec.ECDSA(digest))
            return head + b"".join(tpm2b(u(n, 48)) for n in decode_dss_signature(der))
        return head + tpm2b(self.raw_signature(message))

    def raw_signature(self, message):
        digest = DIGESTS[self.digest]
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.MAX_LENGTH)
        chosen = pss if self.scheme == RSAPSS else padding.PKCS1v15()
        return self.private.sign(message, chosen, digest)


def rsa_attestation_key(**changes):
    return Key(rsa_key("attestation"), scheme=RSASSA, **changes)


# Statements


def selection(banks):
    """TPML_PCR_SELECTION of {algorithm: indices}."""
    parts = [u(len(banks), 4)]
    for algorithm, indices in banks.items():
        bits = sum(1 << index for index in indices)
        parts.append(u(algorithm, 2) + b"\x03" + u(bits, 3, "little"))
    return b"".join(parts)


def attest(kind, attested, *, extra_data=EXTRA_DATA, clock=5_000_000, safe=1, magic=0xFF544347):
    head = u(magic, 4) + u(kind, 2) + tpm2b(b"\x00\x0b" + bytes(32)) + tpm2b(extra_data)
    return head + u(clock, 8) + u(3, 4) + u(1, 4) + u(safe, 1) + u(0x2023, 8) + attested


def quote_of(values, digest, **options):
    """TPMS_ATTEST over {algorithm: {index: value}}."""
    ordered = {algorithm: sorted(bank) for algorithm, bank in values.items()}
    concatenated = b"".join(values[a][index] for a, indices in ordered.items() for index in indices)
    made = hashlib.new(NAMES[digest], concatenated).digest()
    return attest(0x8018, selection(ordered) + tpm2b(made), **options)


def certification_of(name, **options):
    """TPMS_ATTEST over an object's name."""
    return attest(0x8017, tpm2b(name) + tpm2b(b"\x00\x0b" + bytes(32)), **options)


# The event log

GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
SEPARATOR, NO_ACTION, VERSION, IPL = 0x4, 0x3, 0x8, 0xD
DRIVER_CONFIG, VARIABLE_BOOT, BOOT_APPLICATION, EFI_ACTION = (
    0x80000001,
    0x80000002,
    0x80000003,
    0x80000007,
)


def variable(name, value, guid=GLOBAL_VARIABLE):
    """UEFI_VARIABLE_DATA."""
    text = name.encode("utf-16-le")
    return guid + u(len(name), 8, "little") + u(len(value), 8, "little") + text + value


@dataclass(frozen=True)
class Event:
    """An event; `measured` is what its digest is over, if not its data."""

    index: int
    type: int
    data: bytes
    measured: bytes | None = None

    def digest(self, bank):
        over = self.data if self.measured is None else self.measured
        return bytes(SIZES[bank]) if self.type == NO_ACTION else hashlib.new(bank, over).digest()

    def encode(self, algorithms):
        digests = b"".join(
            u(algorithm, 2, "little") + self.digest(NAMES[algorithm]) for algorithm in algorithms
        )
        head = u(self.index, 4, "little") + u(self.type, 4, "little")
        data = u(len(self.data), 4, "little") + self.data
        return head + u(len(algorithms), 4, "little") + digests + data


SIZES = {name: hashlib.new(name).digest_size for name in NAMES.values()}
BOOT = (
    Event(0, VERSION, "tests 1".encode("utf-16-le")),
    Event(7, DRIVER_CONFIG, variable("SecureBoot", b"\x01")),
    Event(7, DRIVER_CONFIG, variable("PK", b"platform key")),
    Event(4, EFI_ACTION, b"Calling EFI Application from Boot Option"),
    *(Event(index, SEPARATOR, bytes(4)) for index in range(8)),
    Event(4, BOOT_APPLICATION, b"path of a loader", b"the loader"),
    Event(8, IPL, b"grub_cmd: boot\0", b"boot"),
    Event(9, IPL, b"/vmlinuz\0", b"the kernel"),
    Event(11, IPL, b".linux\0", b"the unified image"),
)


def header(banks=(SHA1, SHA256), **changes):
    """The first event of a log."""
    parts = {
        "signature": b"Spec ID Event03\0",
        "version": bytes([0, 0, 0, 0, 0, 2, 0, 2]),
        "count": u(len(banks), 4, "little"),
        "algorithms": b"".join(
            u(algorithm, 2, "little") + u(SIZES[NAMES[algorithm]], 2, "little")
            for algorithm in banks
        ),
        "vendor": b"\x00",
    } | changes
    spec = b"".join(parts.values())
    return u(0, 4) + u(NO_ACTION, 4, "little") + bytes(20) + u(len(spec), 4, "little") + spec


def event_log(events=BOOT, algorithms=(SHA1, SHA256), padding=b""):
    return header(algorithms) + b"".join(event.encode(algorithms) for event in events) + padding


def registers_of(events=BOOT, bank="sha256", locality=0):
    """What 24 registers hold after these events: replayed here, apart from the code under test."""
    filled = range(17, 23)
    values = {index: (b"\xff" if index in filled else b"\0") * SIZES[bank] for index in range(24)}
    values[0] = u(locality, SIZES[bank])
    for event in events:
        if event.type != NO_ACTION:
            held = values[event.index] + event.digest(bank)
            values[event.index] = hashlib.new(bank, held).digest()
    return values


# A machine with its TPM, and the CA that knows it


def usage_extensions(usage=AK_USAGE, *, digital_signature=True, critical_name=True):
    """The extensions of an attestation key's certificate, with the critical name TPMs have."""
    key_usage = x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=not digital_signature,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    usages = x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage)])
    name = x509.SubjectAlternativeName([x509.DNSName("tpm.test.invalid")])
    basic = x509.BasicConstraints(ca=False, path_length=None)
    return [(basic, True), (key_usage, True), (usages, False), (name, critical_name)]


@dataclass(frozen=True)
class Machine:
    """One machine, honest as it is made.

    Attributes:
        key: the attestation key.
        events: what was booted.
        banks: the banks that are quoted, a selection each in one quote.
        indices: the registers that are quoted.
        quote_options: what `attest` is told to do otherwise.
    """

    key: Key = field(default_factory=Key)
    events: tuple = BOOT
    banks: tuple = (SHA256,)
    indices: tuple = tuple(range(24))
    quote_options: dict = field(default_factory=dict)

    @property
    def values(self):
        return {
            algorithm: {
                index: value
                for index, value in registers_of(self.events, NAMES[algorithm]).items()
                if index in self.indices
            }
            for algorithm in self.banks
        }

    @property
    def registers(self):
        return {NAMES[algorithm]: bank for algorithm, bank in self.values.items()}

    @property
    def message(self):
        return quote_of(self.values, self.key.digest, **self.quote_options)

    def evidence(self, **changes):
        message = changes.pop("attest", self.message)
        honest = TpmEvidence(message, self.key.sign(message), self.key.public, self.registers)
        return replace(honest, **changes).encode()

    @property
    def log(self):
        return event_log(self.events)


ROOT = root("sottovoce tests, TPM root", ec_key("tpm root"))


def issuer(**options):
    options = {"extensions": ca_extensions()} | options
    return ROOT.issue("sottovoce tests, TPM CA", ec_key("tpm ca"), **options)


def certificate(key, **options):
    """A certificate of a key, by the CA of the tests."""
    options = {"extensions": usage_extensions()} | options
    return issuer().issue("", key.private, **options)


def chain_of(key, **options):
    """Its chain, leaf first, in PEM."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificate(key, **options).chain)


ROOTS = frozenset({ROOT.fingerprint})


def certification(certifier, key, **options):
    """What another attestation key signs of this one."""
    message = certification_of(key.name, **options)
    return tpm2b(message) + certifier.sign(message)


# Azure

AZURE_KEY = Key(rsa_key("attestation"), scheme=RSASSA)


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def web_key(key=AZURE_KEY, **changes):
    numbers = key.public_key.public_numbers()
    return {
        "kid": "HCLAkPub",
        "key_ops": ["sign"],
        "kty": "RSA",
        "e": base64url(u(numbers.e, 3)),
        "n": base64url(u(numbers.n, 256)),
    } | changes


@dataclass(frozen=True)
class AzureMachine:
    """One machine, honest as it is made, with SNP or TDX below it.

    Attributes:
        machine: the machine and its virtual TPM.
        runtime: members of the runtime data that differ.
        text: the runtime data itself, if it is to be something else.
        hcl: fields of the HCL report that differ.
        snp: attributes of the SNP machine that differ.
        report_data: what the hardware vouches for, if not the runtime data.
        digest: the number of the digest by which it does.
        hardware: the hardware's report, if another.
    """

    machine: Machine = field(default_factory=lambda: Machine(AZURE_KEY))
    runtime: dict = field(default_factory=dict)
    text: bytes | None = None
    hcl: dict = field(default_factory=dict)
    snp: dict = field(default_factory=dict)
    report_data: bytes | None = None
    digest: int = 1
    hardware: bytes | None = None

    @property
    def runtime_data(self):
        if self.text is not None:
            return self.text
        members = {
            "keys": [web_key(), {"kid": "HCLEkPub", "kty": "RSA"}],
            "vm-configuration": {"secure-boot": True, "console-enabled": False},
            "user-data": "00" * 64,
        }
        return json.dumps(members | self.runtime).encode()

    @property
    def bound(self):
        """The report data that the hardware vouches for."""
        if self.report_data is not None:
            return self.report_data
        name = {1: "sha256", 2: "sha384", 3: "sha512"}[self.digest]
        return hashlib.new(name, self.runtime_data).digest().ljust(64, b"\0")

    @cached_property
    def snp_machine(self):
        return SnpMachine(line="Genoa", report_data=self.bound, **self.snp)

    @property
    def roots(self):
        return self.snp_machine.roots

    @property
    def issuers(self):
        return self.snp_machine.ask.pem + self.snp_machine.ark.pem

    @property
    def hcl_report(self):
        report = self.snp_machine.quote() if self.hardware is None else self.hardware
        text = self.runtime_data
        fields = {
            "magic": b"HCLA",
            "version": u(2, 4, "little"),
            "size": u(32 + 1184 + 20 + len(text), 4, "little"),
            "request": u(2, 4, "little"),
            "status": u(0, 4, "little"),
            "reserved": bytes(12),
            "hardware": report,
            "length": u(20 + len(text), 4, "little"),
            "data_version": u(1, 4, "little"),
            "kind": u(2, 4, "little"),
            "digest": u(self.digest, 4, "little"),
            "text_length": u(len(text), 4, "little"),
            "text": text,
            "padding": bytes(100),
        } | self.hcl
        return b"".join(fields.values())

    def members(self):
        """The evidence as it is exchanged today."""
        message, values = self.machine.message, self.machine.registers["sha256"]
        return {
            "version": 1,
            "tpm_quote": {
                "message": message.hex(),
                "signature": self.machine.key.raw_signature(message).hex(),
                "pcrs": [value.hex() for value in values.values()],
            },
            "hcl_report": base64url(self.hcl_report),
            "vcek": base64url(self.snp_machine.key_certificate.der),
        }

    def older_members(self):
        """The evidence as it was exchanged: bytes as lists of numbers, the VCEK in PEM."""
        quote = self.members()["tpm_quote"]
        return {
            "quote": {
                "message": list(bytes.fromhex(quote["message"])),
                "signature": list(bytes.fromhex(quote["signature"])),
                "pcrs": [list(bytes.fromhex(value)) for value in quote["pcrs"]],
            },
            "report": list(self.hcl_report),
            "vcek": self.snp_machine.key_certificate.pem.decode(),
        }

    def evidence(self, **changes):
        return json.dumps(self.members() | changes).encode()


# Google


def varint(value):
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def number(field_number, value):
    return varint(field_number << 3) + varint(value)


def message(field_number, data):
    return varint(field_number << 3 | 2) + varint(len(data)) + data


def instance_extension(*, production=True, properties=True):
    """Which machine it is, as Google's CA writes it."""
    members = [
        tlv(0x0C, b"zone-1a"),
        tlv(0x02, bytes.fromhex("051b5a475c")),
        tlv(0x0C, b"tests.invalid:project"),
        tlv(0x02, bytes.fromhex("53e3fbbf8306c50c")),
        tlv(0x0C, b"machine"),
    ]
    if properties:
        flag = tlv(0xA1, tlv(0x01, b"\xff" if production else b"\x00"))
        version = tlv(0xA0, tlv(0x02, b"\x00"))
        members.append(tlv(0xA0, tlv(0x30, version + flag)))
    return opaque("1.3.6.1.4.1.11129.2.1.21", tlv(0x30, b"".join(members)))


@dataclass(frozen=True)
class GoogleMachine:
    """One machine, honest as it is made: a quote over each bank, and a certificate by Google's way.

    Attributes:
        machine: the machine and its virtual TPM.
        quotes: for each quote, its bank.
        quote_options: by bank, what is different about its quote.
        public: a TPMT_PUBLIC, if another.
        certified: the key that the certificate is of.
        usage: the extensions that say what the certified key is for.
        extensions: the further ones of the certificate.
        further: fields behind the others.
        left_out: numbers of fields that are not there.
    """

    machine: Machine = field(default_factory=lambda: Machine(rsa_attestation_key()))
    quotes: tuple = (SHA1, SHA256)
    quote_options: dict = field(default_factory=dict)
    public: bytes | None = None
    certified: Key | None = None
    usage: list | None = None
    extensions: tuple = ()
    further: bytes = b""
    left_out: frozenset = frozenset()

    @property
    def certificate(self):
        usage = usage_extensions(EK_USAGE) if self.usage is None else self.usage
        extensions = [*usage, *(self.extensions or [instance_extension()])]
        return certificate(self.certified or self.machine.key, extensions=extensions)

    def quote(self, algorithm):
        machine = replace(
            self.machine, banks=(algorithm,), quote_options=self.quote_options.get(algorithm, {})
        )
        values = machine.values[algorithm]
        # As encoders of maps do: in any order, and without a key that is zero.
        entries = b"".join(
            message(2, (number(1, index) if index else b"") + message(2, value))
            for index, value in sorted(values.items(), key=lambda entry: entry[1])
        )
        text = machine.message
        registers = number(1, algorithm) + entries
        return message(1, text) + message(2, machine.key.sign(text)) + message(3, registers)

    @property
    def parts(self):
        return {
            1: [self.machine.key.public if self.public is None else self.public],
            2: [self.quote(algorithm) for algorithm in self.quotes],
            3: [event_log(self.machine.events)],
            4: [message(1, b"zone-1a")],
            6: [self.certificate.der],
            7: [issuer().der],
        }

    @property
    def evidence(self):
        fields = [
            message(field_number, value)
            for field_number, values in self.parts.items()
            for value in values
            if field_number not in self.left_out
        ]
        return b"".join(fields) + self.further
