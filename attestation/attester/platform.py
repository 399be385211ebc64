"""Which platform this machine is: what `sottovoce worker --platform` picks from.

A platform joins by one `Candidate` here. `simulated` is none: it proves nothing, so nothing ever
picks it; who wants it asks for it by its name and brings its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from attestation.attester.azure import AzureAttester
from attestation.attester.base import Attester
from attestation.attester.configfs_tsm import ConfigfsTsm, find_platform
from attestation.attester.tpm import TpmAttester
from attestation.collateral import Collateral
from attestation.errors import AttesterFailed

AUTO = "auto"

TPM_DEVICE = Path("/dev/tpmrm0")
CHASSIS = Path("/sys/class/dmi/id/chassis_asset_tag")
AZURE_CHASSIS = "7783-7084-3265-9085-8269-3286-77"
"""What every machine of Azure's has as its asset tag."""

MAX_PART = 1 << 20
"""Bytes of one part of stored collateral: no bundle holds more."""


@dataclass(frozen=True)
class Candidate:
    """A platform that a machine may be.

    Attributes:
        name: as in bundles.
        is_here: whether this machine is one; asks the machine, and leaves nothing behind.
        attester: makes the attester, given the file that endorses the hardware, where one has to.
    """

    name: str
    is_here: Callable[[], bool]
    attester: Callable[[Path | None], Attester]


def _kernel_provides(name: str) -> Callable[[], bool]:
    def is_here() -> bool:
        found = find_platform()
        return found is not None and found[1] == name

    return is_here


def _has_tpm() -> bool:
    return TPM_DEVICE.exists()


def _is_on_azure() -> bool:
    try:
        return _has_tpm() and CHASSIS.read_text().strip() == AZURE_CHASSIS
    except OSError:
        return False


def _azure(endorsement: Path | None) -> Attester:
    if endorsement is None:
        raise AttesterFailed("azure-vtpm needs what endorses the hardware's report, in a file")

    def endorse(_: bytes) -> bytes:
        try:
            return endorsement.read_bytes()
        except OSError as error:
            raise AttesterFailed(f"the endorsement cannot be read: {error.strerror}") from error

    return AzureAttester(endorse)


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("tdx", _kernel_provides("tdx"), lambda _: ConfigfsTsm("tdx")),
    Candidate("snp", _kernel_provides("snp"), lambda _: ConfigfsTsm("snp")),
    Candidate("azure-vtpm", _is_on_azure, _azure),
    Candidate("tpm", _has_tpm, lambda _: TpmAttester()),
)
"""The strongest first: a machine that is several of them quotes on the first."""

HARDWARE = tuple(candidate.name for candidate in CANDIDATES)


def detect(
    asked: str = AUTO,
    candidates: tuple[Candidate, ...] = CANDIDATES,
    *,
    endorsement: Path | None = None,
) -> Attester:
    """Return the attester of the platform asked for, or with `auto` of the one this machine is.

    Args:
        asked: a platform's name, or `auto`.
        candidates: what the machine may be.
        endorsement: the file that endorses the hardware's report; only `azure-vtpm` needs it.

    Raises:
        AttesterFailed: there is no such platform, this machine is none, or not the one asked for.
    """
    named = [each for each in candidates if asked in (AUTO, each.name)]
    if not named:
        raise AttesterFailed(f"there is no platform {asked!r} to detect")
    for candidate in named:
        if candidate.is_here():
            return candidate.attester(endorsement)
    names = ", ".join(each.name for each in named)
    raise AttesterFailed(f"this machine is not {names}; simulated must be asked for by name")


def read_collateral(folder: Path | None) -> Mapping[str, bytes]:
    """Return the collateral that somebody fetched into a folder: a file for each part, by its name.

    Raises:
        AttesterFailed: the folder cannot be read, or has a file in it that is no such part.
    """
    if folder is None:
        return {}
    try:
        parts = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
    except OSError as error:
        raise AttesterFailed(f"the collateral cannot be read: {error.strerror}") from error
    if any(len(part) > MAX_PART for part in parts.values()):
        raise AttesterFailed("a part of the collateral is too long")
    try:
        return Collateral(parts).parts
    except ValueError as error:
        raise AttesterFailed(f"the folder of collateral: {error}") from error
