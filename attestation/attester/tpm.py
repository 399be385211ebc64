"""The attester of a TPM 2.0: quotes through the TPM2 software stack (`tpm2-pytss`, extra `tpm`).

Boot-only: it proves what was booted, to one who trusts the TPM's owner; the host can read memory.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attestation.attester.base import Evidence
from attestation.attester.event_log import FIRMWARE, read_event_log
from attestation.errors import AttesterFailed
from attestation.verifier.tpm.algorithms import REGISTERS
from attestation.verifier.tpm.attest import parse_quote
from attestation.verifier.tpm.evidence import TpmEvidence
from attestation.verifier.tpm.platform import TPM

BANK = "sha256"

_TEMPLATE = "ecc256:ecdsa-sha256:null"
_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda"
"""`noda`: there is no secret to guess, and machines whose power fails would in the end lock it."""
_ATTEMPTS = 5
_NV_CHUNK = 512
"""Bytes; no TPM reads less at once (PC Client Platform TPM Profile, TPM_PT_NV_BUFFER_MAX)."""


class TpmUnavailable(AttesterFailed):
    """There is no TPM that can be used: no software stack, no device, or it refuses."""


@dataclass(frozen=True)
class Quoted:
    """A quote fresh from a TPM: TPMS_ATTEST, TPMT_SIGNATURE, and the values it is over."""

    attest: bytes
    signature: bytes
    registers: dict[int, bytes]


class TpmAttester:
    """Quotes by an attestation key of this machine's TPM.

    Args:
        tcti: how the TPM is reached, as `tpm2-tss` writes it; None: as is usual on this machine.
        handle: of a persistent attestation key. None: the primary key that the endorsement
            hierarchy derives from a fixed template, the same each time.
        event_log: where the firmware's log is.

    Raises:
        TpmUnavailable: (on construction) the extra `tpm` is not installed.
    """

    platform = TPM

    def __init__(
        self, tcti: str | None = None, *, handle: int | None = None, event_log: Path = FIRMWARE
    ) -> None:
        self._stack = load_stack()
        self._tcti = tcti
        self._handle = handle
        self._event_log = event_log

    def attest(self, report_data: bytes) -> Evidence:
        """Return a quote, and the firmware's log of what was booted.

        Raises:
            TpmUnavailable: as `quote` does.
        """
        return Evidence(self.quote(report_data), event_log=self.event_log())

    def quote(self, report_data: bytes) -> bytes:
        """Return evidence whose quote binds the SHA-256 of 64 bytes of report data.

        Raises:
            TpmUnavailable: the TPM does not answer, has no such key, or will not quote.
        """
        with (
            open_device(self._stack, self._tcti) as device,
            device.attestation_key(self._handle) as key,
        ):
            quoted = device.quote(key, hashlib.sha256(report_data).digest())
            public = device.public(key)
        return TpmEvidence(
            quoted.attest, quoted.signature, public, {BANK: quoted.registers}
        ).encode()

    def event_log(self) -> bytes:
        """Return the firmware's event log; empty where the kernel shows none."""
        return read_event_log(self._event_log)


class Device:
    """An open TPM."""

    def __init__(self, stack: Any, esys: Any) -> None:  # noqa: ANN401 - an untyped library's
        self._stack = stack
        self._esys = esys

    @contextmanager
    def attestation_key(self, handle: int | None) -> Iterator[Any]:
        """Give the key at a persistent handle, or the primary key of the fixed template.

        The latter is flushed when the context ends: a TPM has room for three.
        """
        if handle is not None:
            yield self._esys.tr_from_tpmpublic(handle)
            return
        public = self._stack.TPM2B_PUBLIC.parse(_TEMPLATE, objectAttributes=_ATTRIBUTES)
        key = self._esys.create_primary(
            self._stack.TPM2B_SENSITIVE_CREATE(), public, self._stack.ESYS_TR.ENDORSEMENT
        )[0]
        try:
            yield key
        finally:
            self._esys.flush_context(key)

    def public(self, key: Any) -> bytes:  # noqa: ANN401 - as above
        """Return a key's TPMT_PUBLIC."""
        public = self._esys.read_public(key)[0]
        return bytes(public.publicArea.marshal())

    def quote(
        self,
        key: Any,  # noqa: ANN401 - as above
        extra_data: bytes,
        indices: Sequence[int] = range(REGISTERS),
    ) -> Quoted:
        """Quote registers of SHA-256, and read what they hold.

        Raises:
            TpmUnavailable: they change between the one and the other, again and again.
        """
        for _ in range(_ATTEMPTS):
            attest, signature = self._esys.quote(key, _selection(indices), extra_data)
            registers = self._read(indices)
            digest = hashlib.sha256(b"".join(registers.values())).digest()
            if parse_quote(bytes(attest)).attested.pcr_digest == digest:
                return Quoted(bytes(attest), bytes(signature.marshal()), registers)
        raise TpmUnavailable("the registers change while they are quoted")

    def read_nv(self, index: int) -> bytes:
        """Return what an NV index holds, read in its owner's name."""
        area = self._esys.tr_from_tpmpublic(index)
        size = self._esys.nv_read_public(area)[0].nvPublic.dataSize
        owner = self._stack.ESYS_TR.OWNER
        return b"".join(
            bytes(self._esys.nv_read(area, min(_NV_CHUNK, size - offset), offset, owner))
            for offset in range(0, size, _NV_CHUNK)
        )

    def _read(self, indices: Sequence[int]) -> dict[int, bytes]:
        """Read registers: a TPM gives as many at once as it likes, eight at most."""
        values: dict[int, bytes] = {}
        while missing := [index for index in indices if index not in values]:
            _, _, digests = self._esys.pcr_read(_selection(missing[:8]))
            if len(digests) == 0:
                raise TpmUnavailable(f"the TPM has no registers of {BANK}")
            values |= {
                index: bytes(digest) for index, digest in zip(missing, digests, strict=False)
            }
        return values


def load_stack() -> Any:  # noqa: ANN401 - an untyped library
    """Return the library `tpm2_pytss`.

    Raises:
        TpmUnavailable: it is not installed, or its own libraries are not.
    """
    try:
        return importlib.import_module("tpm2_pytss")
    except (ImportError, NotImplementedError) as error:
        raise TpmUnavailable("a TPM needs tpm2-pytss: install the extra `tpm`") from error


@contextmanager
def open_device(stack: Any, tcti: str | None) -> Iterator[Device]:  # noqa: ANN401 - as above
    """Open a TPM for as long as the context lasts.

    Raises:
        TpmUnavailable: it cannot be reached, or refuses what is asked of it.
    """
    try:
        with stack.ESAPI(tcti) as esys:
            yield Device(stack, esys)
    except stack.TSS2_Exception as error:
        raise TpmUnavailable(f"the TPM: {error}") from error


def _selection(indices: Sequence[int]) -> str:
    return f"{BANK}:{','.join(map(str, indices))}"
