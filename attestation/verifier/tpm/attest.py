"""TPMS_ATTEST: what a TPM signs about itself (TPM 2.0 Part 2, section 10.12).

    TPMS_ATTEST = magic u32, type u16, qualifiedSigner TPM2B_NAME, extraData TPM2B_DATA,
                  clockInfo TPMS_CLOCK_INFO, firmwareVersion u64, attested TPMU_ATTEST
    TPMS_CLOCK_INFO = clock u64 (milliseconds), resetCount u32, restartCount u32, safe u8
    TPMS_QUOTE_INFO = pcrSelect TPML_PCR_SELECTION, pcrDigest TPM2B_DIGEST
    TPMS_CERTIFY_INFO = name TPM2B_NAME, qualifiedName TPM2B_NAME

A restricted key signs nothing that begins with `magic` unless the TPM itself made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm.algorithms import BANKS, REGISTERS
from attestation.verifier.tpm.reader import Reader

TPM_GENERATED = 0xFF544347
ATTEST_CERTIFY = 0x8017
ATTEST_QUOTE = 0x8018

MAX_ATTEST = 1024
"""Bytes. A quote over four banks has about 200."""

MAX_DIGEST = 64
MAX_NAME = 2 + MAX_DIGEST
"""An algorithm and a digest of it."""

MAX_EXTRA_DATA = 2 + MAX_DIGEST
"""TPM2B_DATA holds at most a TPMT_HA."""

Selection = tuple[tuple[str, tuple[int, ...]], ...]
"""The registers of a quote: each bank, in the order signed, and its indices, ascending."""


@dataclass(frozen=True)
class Clock:
    """What a TPM knows of time: how long it has run, not when.

    Attributes:
        milliseconds: how long it has been powered since it was last cleared.
        resets: how often it was reset since then.
        restarts: how often it was resumed since its last reset.
        safe: whether `milliseconds` cannot have been lower before, by a power failure.
    """

    milliseconds: int
    resets: int
    restarts: int
    safe: bool


@dataclass(frozen=True)
class QuoteInfo:
    """TPMS_QUOTE_INFO: which registers, and the digest over their values."""

    selection: Selection
    pcr_digest: bytes


@dataclass(frozen=True)
class CertifyInfo:
    """TPMS_CERTIFY_INFO: the name of an object that is in this TPM."""

    name: bytes
    qualified_name: bytes


Attested = TypeVar("Attested", QuoteInfo, CertifyInfo)


@dataclass(frozen=True)
class Attest(Generic[Attested]):
    """What a TPM has signed.

    Attributes:
        qualified_signer: the qualified name of the signing key.
        extra_data: what the caller asked to be signed along.
        clock: the TPM's clock.
        firmware_version: the vendor's own number; zeros where the TPM hides it.
        attested: what it is about.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    firmware_version: int
    attested: Attested


def parse_quote(data: bytes) -> Attest[QuoteInfo]:
    """Parse a TPMS_ATTEST over registers.

    Raises:
        MalformedEvidence: not of the format; with bytes behind it; a bank that is not known, or
            named twice; no register at all.
        Refused: not made by a TPM, or not a quote.
    """
    reader, head = _begin(data, ATTEST_QUOTE, Code.TPM_NOT_A_QUOTE)
    selection = parse_selection(reader)
    attested = QuoteInfo(selection, reader.sized(at_most=MAX_DIGEST))
    reader.finish()
    return Attest(*head, attested)


def parse_certification(data: bytes) -> Attest[CertifyInfo]:
    """Parse a TPMS_ATTEST over an object, as TPM2_Certify makes it.

    Raises:
        MalformedEvidence: not of the format; with bytes behind it.
        Refused: not made by a TPM, or not about an object.
    """
    reader, head = _begin(data, ATTEST_CERTIFY, Code.TPM_NOT_A_CERTIFICATION)
    attested = CertifyInfo(reader.sized(at_most=MAX_NAME), reader.sized(at_most=MAX_NAME))
    reader.finish()
    return Attest(*head, attested)


def parse_selection(reader: Reader) -> Selection:
    """Read a TPML_PCR_SELECTION (Part 2, section 10.9.7): u32 count, each hash u16, size u8, bits.

    Raises:
        MalformedEvidence: see `parse_quote`.
    """
    count = reader.integer(4)
    if count > len(BANKS):
        raise MalformedEvidence("PCR selection: more banks than there are")
    selection = tuple(_parse_bank(reader) for _ in range(count))
    if len({bank for bank, _ in selection}) != count:
        raise MalformedEvidence("PCR selection: a bank twice")
    if not any(indices for _, indices in selection):
        raise MalformedEvidence("PCR selection: no register")
    return selection


def _parse_bank(reader: Reader) -> tuple[str, tuple[int, ...]]:
    bank = BANKS.get(reader.integer(2))
    if bank is None:
        raise MalformedEvidence("PCR selection: an unknown bank")
    bits = int.from_bytes(reader.sized(at_most=REGISTERS // 8, length=1), "little")
    return bank, tuple(index for index in range(REGISTERS) if bits >> index & 1)


def _begin(data: bytes, kind: int, code: Code) -> tuple[Reader, tuple[bytes, bytes, Clock, int]]:
    if len(data) > MAX_ATTEST:
        raise MalformedEvidence("TPMS_ATTEST: too long")
    reader = Reader(data, "TPMS_ATTEST")
    if reader.integer(4) != TPM_GENERATED:
        raise Refused(Code.TPM_NOT_GENERATED, "the signed bytes were not made by a TPM")
    if reader.integer(2) != kind:
        raise Refused(code, "the TPM signed a statement of another kind")
    signer, extra_data = reader.sized(at_most=MAX_NAME), reader.sized(at_most=MAX_EXTRA_DATA)
    return reader, (signer, extra_data, _parse_clock(reader), reader.integer(8))


def _parse_clock(reader: Reader) -> Clock:
    milliseconds, resets, restarts = (reader.integer(length) for length in (8, 4, 4))
    safe = reader.integer(1)
    if safe > 1:
        raise MalformedEvidence("TPMS_CLOCK_INFO: neither yes nor no")
    return Clock(milliseconds, resets, restarts, bool(safe))
