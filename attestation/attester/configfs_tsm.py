"""TDX and SEV-SNP through the kernel's one interface to both: configfs-tsm (Linux 6.7).

    mkdir R                a report of our own below /sys/kernel/config/tsm/report
    R/inblob               write: the report data, at most 64 bytes
    R/outblob              read: the quote over it
    R/auxblob              read: on SNP the host's certificate table; elsewhere empty or missing
    R/provider             read: who made it, `tdx_guest` or `sev_guest`
    R/privlevel_floor      read: on SNP the least privileged level that may ask; else missing
    R/privlevel            write: the level to ask at, needed where that is not 0
    R/generation           read: how often R was written to
    rmdir R                when done

(Documentation/ABI/testing/configfs-tsm-report.) Whoever else writes to R between our write and our
last read would have us take another quote for ours. The generation shows it: then all is made
anew, as it is when the firmware says that it is busy, and a few times at most.
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from attestation.attester.base import Evidence
from attestation.attester.certificate_table import amd_chain, parse_certificate_table
from attestation.attester.event_log import CONFIDENTIAL, read_event_log
from attestation.errors import AttesterFailed, MalformedEvidence

REPORTS = Path("/sys/kernel/config/tsm/report")
PLATFORMS: Mapping[str, str] = MappingProxyType({"tdx_guest": "tdx", "sev_guest": "snp"})
"""For each provider the name of its platform, as bundles have it."""

MAX_BLOB = 64 << 10
"""Bytes that are read of an attribute; the kernel's own limit was 32 KiB for years."""

ATTEMPTS = 5
PAUSE_S = 0.1
"""After the first failure; twice as long after each further one."""

_TRY_AGAIN = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT})


class Attributes(Protocol):
    """The four things done to the kernel's files. Each raises `OSError` as the kernel says."""

    def make(self, report: Path) -> None:
        """Make a report."""

    def remove(self, report: Path) -> None:
        """Remove a report."""

    def read(self, attribute: Path) -> bytes:
        """Read a whole attribute, `MAX_BLOB` and one byte at most."""

    def write(self, attribute: Path, data: bytes) -> None:
        """Write a whole attribute at once."""


class KernelAttributes:
    """The real ones."""

    def make(self, report: Path) -> None:
        """Make the folder; the kernel fills it."""
        report.mkdir()

    def remove(self, report: Path) -> None:
        """Remove the folder; its attributes go with it."""
        report.rmdir()

    def read(self, attribute: Path) -> bytes:
        """Read unbuffered: the kernel makes the quote at the first read."""
        with attribute.open("rb", buffering=0) as file:
            data = b""
            while len(data) <= MAX_BLOB and (piece := file.read(MAX_BLOB + 1 - len(data))):
                data += piece
        return data

    def write(self, attribute: Path, data: bytes) -> None:
        """Write in one call: the kernel takes each call for a whole value."""
        with attribute.open("wb", buffering=0) as file:
            file.write(data)


class _Raced(Exception):
    """Somebody else wrote to our report."""


@dataclass(frozen=True)
class ConfigfsTsm:
    """The attester of the platform that the kernel's provider belongs to.

    Attributes:
        platform: `tdx` or `snp`.
        attributes: the kernel's files, or what stands in for them.
        reports: where they are.
        pause: sleeps.
        event_log: where the kernel shows what the firmware measured, if it does; only on TDX.
    """

    platform: str
    attributes: Attributes = field(default_factory=KernelAttributes)
    reports: Path = REPORTS
    pause: Callable[[float], None] = time.sleep
    event_log: Path = CONFIDENTIAL

    def attest(self, report_data: bytes) -> Evidence:
        """Return a fresh quote over 64 bytes of report data.

        On SNP the chain is collateral, if the host has handed all of it to the guest; on TDX the
        event log comes along, if the kernel shows it.

        Raises:
            AttesterFailed: there is no such interface, it is another platform's, it does not
                answer, or not in its format.
            ValueError: not 64 bytes.
        """
        if len(report_data) != 64:
            raise ValueError("report data is 64 bytes")
        for attempt in range(ATTEMPTS):
            if attempt:
                self.pause(PAUSE_S * 2 ** (attempt - 1))
            try:
                return self._evidence(*self._ask(report_data))
            except _Raced:
                reason = "another process keeps writing to the report"
            except OSError as error:
                reason = f"the kernel does not quote: {error.strerror}"
                if error.errno not in _TRY_AGAIN:
                    raise AttesterFailed(reason) from error
        raise AttesterFailed(f"{reason}, {ATTEMPTS} times")

    def _ask(self, report_data: bytes) -> tuple[bytes, bytes, str]:
        report = _new_report(self.attributes, self.reports)
        try:
            before = self._number(report / "generation")
            writes = self._write(report, report_data)
            quote = self._read(report / "outblob")
            auxiliary = self._read_optional(report / "auxblob")
            provider = _provider(self.attributes, report)
            if self._number(report / "generation") != before + writes:
                raise _Raced
        finally:
            self.attributes.remove(report)
        return quote, auxiliary, provider

    def _write(self, report: Path, report_data: bytes) -> int:
        """Write what is to be quoted, and at which level; return how many writes that took."""
        self.attributes.write(report / "inblob", report_data)
        floor = self._number(report / "privlevel_floor")
        if not floor:
            return 1
        self.attributes.write(report / "privlevel", str(floor).encode())
        return 2

    def _evidence(self, quote: bytes, auxiliary: bytes, provider: str) -> Evidence:
        if PLATFORMS.get(provider) != self.platform:
            raise AttesterFailed(f"the kernel's provider is {provider!r}, not {self.platform}'s")
        if not quote:
            raise AttesterFailed("the kernel gave an empty quote")
        if self.platform == "tdx":
            return Evidence(quote, event_log=read_event_log(self.event_log))
        if not auxiliary:
            return Evidence(quote)
        try:
            chain = amd_chain(parse_certificate_table(auxiliary), quote)
        except MalformedEvidence as error:
            raise AttesterFailed(f"what the host gave as certificates is none: {error}") from error
        return Evidence(quote, {"amd-chain": chain} if chain else {})

    def _read(self, attribute: Path) -> bytes:
        data = self.attributes.read(attribute)
        if len(data) > MAX_BLOB:
            raise AttesterFailed(f"the kernel's {attribute.name} is too long")
        return data

    def _read_optional(self, attribute: Path) -> bytes:
        try:
            return self._read(attribute)
        except FileNotFoundError:
            return b""  # not every provider has it

    def _number(self, attribute: Path) -> int:
        try:
            return int(self._read_optional(attribute) or b"0")
        except ValueError as error:
            raise AttesterFailed(f"the kernel's {attribute.name} is not a number") from error


def find_platform(
    attributes: Attributes | None = None, reports: Path = REPORTS
) -> tuple[str, str] | None:
    """Return provider and platform (empty: not one we know) of this machine's interface, if any."""
    attributes = attributes or KernelAttributes()
    try:
        report = _new_report(attributes, reports)
        try:
            provider = _provider(attributes, report)
        finally:
            attributes.remove(report)
    except OSError:
        return None
    return provider, PLATFORMS.get(provider, "")


def _new_report(attributes: Attributes, reports: Path) -> Path:
    """Make a report under a name that nobody else uses: the kernel's own advice against races."""
    report = reports / f"sottovoce-{secrets.token_hex(8)}"
    attributes.make(report)
    return report


def _provider(attributes: Attributes, report: Path) -> str:
    return attributes.read(report / "provider").decode("ascii", "replace").strip()
