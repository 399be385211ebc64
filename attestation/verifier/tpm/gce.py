"""Google's virtual TPM: quotes over several banks by a key that Google's CA certifies.

Evidence is a protobuf message, `attest.Attestation` of go-tpm-tools (proto/attest.proto):

    1 ak_pub: TPMT_PUBLIC       2 quotes: {1 TPMS_ATTEST, 2 TPMT_SIGNATURE, 3 {1 hash, 2 {1 index,
    2 value} *}} *              3 event_log           4 instance_info     5 canonical_event_log
    6 ak_cert: DER              7 intermediate_certs: DER *
    8 sev_snp_attestation       9 tdx_attestation

The host runs the virtual TPM: whoever controls it can read the guest's memory, and make it quote
what it likes. The hardware's report in 8 or 9 does not change that: it binds the challenge, not the
key, and so can be another machine's. Such a machine has a quote of its own (`snp`, `tdx`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.x509 import Certificate, ObjectIdentifier

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm import instance
from attestation.verifier.tpm.algorithms import BANKS, REGISTERS
from attestation.verifier.tpm.claims import Provenance, QuoteClaims, TpmClaims, merge
from attestation.verifier.tpm.event_log import Registers
from attestation.verifier.tpm.instance import Instance
from attestation.verifier.tpm.keys import PublicArea, parse_public, parse_signature
from attestation.verifier.tpm.protobuf import parse_message
from attestation.verifier.tpm.provenance import (
    AK_CERTIFICATE,
    EK_CERTIFICATE,
    check_chain,
    check_same_key,
    load_chain,
)
from attestation.verifier.tpm.quote import check as check_quote
from attestation.verifier.tpm.quote import check_log

MAX_ENCODED = 1 << 20
_UNCHECKED = {5: "canonical_event_log", 8: "sev_snp_attestation", 9: "tdx_attestation"}
_KNOWN = frozenset({1, 2, 3, 4, 6, 7, *_UNCHECKED})
_USAGES = frozenset({AK_CERTIFICATE, EK_CERTIFICATE})


@dataclass(frozen=True)
class GceQuote:
    """One quote: a TPMS_ATTEST, a TPMT_SIGNATURE, and the registers of its bank."""

    attest: bytes
    signature: bytes
    registers: Registers


@dataclass(frozen=True)
class GceEvidence:
    """Google's evidence; none of it checked.

    Attributes:
        public: a TPMT_PUBLIC.
        quotes: over a bank each.
        event_log: the firmware's log; or empty.
        certificates: of the attestation key, if there is one; then its issuers.
        unchecked: what else there is that no check here reaches, by its name.
    """

    public: bytes
    quotes: tuple[GceQuote, ...]
    event_log: bytes
    certificates: tuple[bytes, ...]
    unchecked: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes) -> GceEvidence:
        """Parse evidence.

        Raises:
            MalformedEvidence: not of the format; a field that is not known, or there twice; no
                quote; issuers without a certificate; too long.
        """
        if len(data) > MAX_ENCODED:
            raise MalformedEvidence("GCE evidence: too long")
        fields = parse_message(data)
        if not fields.keys() <= _KNOWN:
            raise MalformedEvidence("GCE evidence: an unknown field")
        certificate, issuers = _bytes_of(fields, 6), _all_of(fields, 7)
        quotes = tuple(map(_parse_quote, _all_of(fields, 2)))
        if not 1 <= len(quotes) <= len(BANKS) or (issuers and not certificate):
            raise MalformedEvidence("GCE evidence: no quote, or issuers of nothing")
        return cls(
            public=_bytes_of(fields, 1),
            quotes=quotes,
            event_log=_bytes_of(fields, 3),
            certificates=tuple(each for each in (certificate, *issuers) if each),
            unchecked=tuple(name for number, name in _UNCHECKED.items() if number in fields),
        )


@dataclass(frozen=True)
class GceClaims:
    """Authentic evidence.

    Attributes:
        tpm: what the virtual TPM says.
        instance: what the certificate says of the machine; None if it is unproven, or silent.
        unchecked: the names of parts that no check reaches.
    """

    tpm: TpmClaims
    instance: Instance | None
    unchecked: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """Return the claims for a JSON text: bytes in hexadecimal."""
        machine = None if self.instance is None else self.instance.to_json()
        return {"instance": machine, "unchecked": list(self.unchecked), **self.tpm.to_json()}


def verify(evidence: bytes, *, chain: bytes = b"", roots: frozenset[bytes], at: int) -> GceClaims:
    """Verify Google's evidence, all dates included.

    Args:
        evidence: the protobuf message.
        chain: the issuers of the attestation key's certificate that are not in the message, root
            last: DER or PEM. Empty: the key stays unproven, as the claims say.
        roots: fingerprints of the roots that the chain may lead to.
        at: unix seconds.

    Raises:
        Refused: with one code for each check.
    """
    claims = authenticate(evidence, chain=chain, roots=roots)
    claims.tpm.check_dates(at=at)
    return claims


def authenticate(evidence: bytes, *, chain: bytes = b"", roots: frozenset[bytes]) -> GceClaims:
    """Verify evidence as `verify` does, but for the dates: `TpmClaims.check_dates` is still due.

    Raises:
        Refused: with one code for each check.
    """
    try:
        decoded = GceEvidence.parse(evidence)
        public = parse_public(decoded.public)
        quotes = tuple(_check_quote(quote, public) for quote in decoded.quotes)
    except MalformedEvidence as error:
        raise Refused(Code.GCE_MALFORMED, str(error)) from error
    public.check_attestation_key()
    _check_together(quotes)
    certified = _check_certificate(public, decoded.certificates, chain, roots=roots)
    events, booted = check_log(decoded.event_log, merge(quote.registers for quote in quotes))
    proven = Provenance.CERTIFICATE if certified else Provenance.UNPROVEN
    tpm = TpmClaims(quotes, public.key, proven, certified, events, booted)
    return GceClaims(tpm, _instance(certified), decoded.unchecked)


def _check_quote(quote: GceQuote, public: PublicArea) -> QuoteClaims:
    signature = parse_signature(quote.signature)
    public.check_scheme(signature)
    return check_quote(quote.attest, signature, public.key, quote.registers)


def _check_together(quotes: tuple[QuoteClaims, ...]) -> None:
    """Check that the quotes are one statement: of different banks, and binding the same."""
    banks = [bank for quote in quotes for bank in quote.registers]
    if len(set(banks)) != len(banks):
        raise Refused(Code.GCE_QUOTES_MISMATCH, "two quotes are over the same bank")
    if len({quote.attest.extra_data for quote in quotes}) != 1:
        raise Refused(Code.GCE_QUOTES_MISMATCH, "the quotes do not bind the same data")


def _check_certificate(
    public: PublicArea, found: tuple[bytes, ...], chain: bytes, *, roots: frozenset[bytes]
) -> tuple[Certificate, ...]:
    if not found and chain:
        raise Refused(Code.GCE_CERTIFICATE_MISSING, "the attestation key has no certificate")
    pieces = [*found, chain] if chain else list(found)
    certified = load_chain(pieces)
    if certified:
        check_same_key(public.key, certified[0].public_key())  # type: ignore[arg-type]
    if not chain:
        return ()
    check_chain(certified, roots=roots, usages=_USAGES)
    return certified


def _instance(chain: tuple[Certificate, ...]) -> Instance | None:
    oid = ObjectIdentifier(instance.OID)
    for extension in chain[0].extensions if chain else ():
        if extension.oid == oid:
            try:
                return Instance.parse(extension.value.public_bytes())
            except MalformedEvidence as error:
                raise Refused(Code.GCE_INSTANCE_MALFORMED, str(error)) from error
    return None


def _parse_quote(data: bytes) -> GceQuote:
    fields = parse_message(data)
    if not fields.keys() <= {1, 2, 3}:
        raise MalformedEvidence("GCE quote: an unknown field")
    attest, signature, registers = (_bytes_of(fields, number) for number in (1, 2, 3))
    return GceQuote(attest, signature, _parse_registers(registers))


def _parse_registers(data: bytes) -> Registers:
    fields = parse_message(data)
    match fields.get(1):
        case [int(algorithm)] if algorithm in BANKS and fields.keys() <= {1, 2}:
            pairs = [_parse_register(each) for each in _all_of(fields, 2)]
        case _:
            raise MalformedEvidence("GCE quote: registers of no bank")
    values = dict(pairs)
    if len(values) != len(pairs):
        raise MalformedEvidence("GCE quote: a register twice")
    return {BANKS[algorithm]: values}


def _parse_register(data: bytes) -> tuple[int, bytes]:
    """Parse an entry of a map: a key that is zero may be left out, as any value that is."""
    fields = parse_message(data)
    match fields.get(1, [0]):
        case [int(index)] if index < REGISTERS and fields.keys() <= {1, 2}:
            return index, _bytes_of(fields, 2)
    raise MalformedEvidence("GCE quote: a register that no TPM has")


def _bytes_of(fields: dict[int, list[int | bytes]], number: int) -> bytes:
    """Return a field that is there once; empty if it is not there."""
    values = _all_of(fields, number)
    if len(values) > 1:
        raise MalformedEvidence(f"GCE evidence: field {number} is there twice")
    return values[0] if values else b""


def _all_of(fields: dict[int, list[int | bytes]], number: int) -> list[bytes]:
    values = fields.get(number, [])
    found = [value for value in values if isinstance(value, bytes)]
    if len(found) != len(values):
        raise MalformedEvidence(f"GCE evidence: field {number} is not bytes")
    return found
