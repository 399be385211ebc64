"""What an authentic quote of a TPM says, and why its key is believed to be a TPM's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.x509 import Certificate

from attestation.errors import Code
from attestation.verifier import certificates
from attestation.verifier.tpm.attest import Attest, Clock, QuoteInfo, Selection
from attestation.verifier.tpm.event_log import EventLogClaims, Registers
from attestation.verifier.tpm.keys import PublicKey, spki


class Provenance(StrEnum):
    """Why the attestation key is believed to be one of a TPM (docs/decisions, number 11)."""

    HARDWARE = "hardware"
    """A report of the confidential machine's own hardware holds it."""

    CERTIFICATE = "certificate"
    """A CA whose root is pinned has certified it as a TPM's attestation key."""

    CERTIFICATION = "certification"
    """A key that such a CA has certified has certified it, inside the same TPM."""

    UNPROVEN = "unproven"
    """For no reason: any software can make such a quote."""


@dataclass(frozen=True)
class QuoteClaims:
    """One quote.

    Attributes:
        attest: what the TPM signed.
        registers: the values of the registers it quoted, by bank and index.
    """

    attest: Attest[QuoteInfo]
    registers: Registers

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "extraData": self.attest.extra_data.hex(),
            "pcrDigest": self.attest.attested.pcr_digest.hex(),
            "pcr_bank": describe(self.attest.attested.selection),
            "pcrs": {
                bank: {str(index): value.hex() for index, value in sorted(values.items())}
                for bank, values in self.registers.items()
            },
        }


@dataclass(frozen=True)
class TpmClaims:
    """One or more quotes of one TPM, under one key, over the same extra data.

    Attributes:
        quotes: the quotes, each over banks of its own.
        key: the attestation key.
        provenance: why the key is believed to be a TPM's.
        chain: the certificates that say so, leaf first; none if it is not they.
        event_log: the log that leads to the quoted registers, if one was given.
        secure_boot: whether it was on; None if nothing says.
    """

    quotes: tuple[QuoteClaims, ...]
    key: PublicKey = field(repr=False)
    provenance: Provenance
    chain: tuple[Certificate, ...] = field(default=(), repr=False)
    event_log: EventLogClaims | None = field(default=None, repr=False)
    secure_boot: bool | None = None

    @property
    def registers(self) -> Registers:
        """The quoted registers of all banks."""
        return merge(quote.registers for quote in self.quotes)

    @property
    def extra_data(self) -> bytes:
        """What the quotes bind."""
        return self.quotes[0].attest.extra_data

    @property
    def clock(self) -> Clock:
        """The TPM's clock at the last of the quotes."""
        return max((quote.attest.clock for quote in self.quotes), key=lambda c: c.milliseconds)

    def check_dates(self, *, at: int) -> None:
        """Check that the chain is valid at unix time `at`. A quote has no date.

        Raises:
            Refused: a certificate is not valid yet, or not any more.
        """
        certificates.check_dates(
            self.chain,
            at=at,
            code_future=Code.TPM_CERTIFICATE_NOT_YET_VALID,
            code_expired=Code.TPM_CERTIFICATE_EXPIRED,
        )

    def to_json(self) -> dict[str, object]:
        """Return the claims for a JSON text: bytes in hexadecimal."""
        first, clock = self.quotes[0].attest, self.clock
        return {
            "ak_sha256": hashlib.sha256(spki(self.key)).hexdigest(),
            "ak_provenance": self.provenance.value,
            "qualified_signer": first.qualified_signer.hex(),
            "firmware_version": f"{first.firmware_version:#018x}",
            "clock": {
                "milliseconds": clock.milliseconds,
                "resets": clock.resets,
                "restarts": clock.restarts,
                "safe": clock.safe,
            },
            "quotes": [quote.to_json() for quote in self.quotes],
            "secure_boot": self.secure_boot,
            "event_log": None if self.event_log is None else self.event_log.to_json(),
        }


def merge(parts: Iterable[Registers]) -> Registers:
    """Return the registers of several quotes in one mapping."""
    merged: dict[str, Mapping[int, bytes]] = {}
    for part in parts:
        merged |= part
    return merged


def describe(selection: Selection) -> str:
    """Return a selection for a person: `sha256 0-7,11`."""
    return "; ".join(f"{bank} {','.join(_ranges(indices))}" for bank, indices in selection)


def _ranges(indices: tuple[int, ...]) -> list[str]:
    """Return ascending numbers as runs: 0-7, 11."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
