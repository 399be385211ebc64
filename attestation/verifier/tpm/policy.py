"""What is demanded of a TPM's quote, beyond that it is authentic."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import Code, Refused
from attestation.verifier.tpm.algorithms import REGISTERS, SIZES
from attestation.verifier.tpm.claims import Provenance, TpmClaims

MEASURED_BANK = "sha256"
MEASURED = (0, 2, 4, 7, 8, 9, 11, 12, 13, 14)
"""The registers that a release states (`platform.measure`): firmware and option ROMs (0, 2), boot
loader (4), secure boot (7), what the loader ran and read (8, 9), a unified kernel image, its
parameters and extensions (11 to 13), a machine owner's keys (14). Left out is what differs between
machines that run the same software, or boots of one: settings, disks, and what runs later."""

_STRONG_BANKS = frozenset(SIZES) - {"sha1"}


@dataclass(frozen=True)
class TpmPolicy:
    """What a quote must be. The default is the strict one.

    Attributes:
        bank: the bank whose registers count; never `sha1`.
        registers: the registers of it that must be quoted, as decimal numbers.
        secure_boot: whether it must have been on. What says so is the event log, or on Azure the
            paravisor.
        provenance: the reasons that are accepted for taking the key for a TPM's.
        max_clock_s: how long the TPM may have run. A clock beyond the life of any machine is none.

    Raises:
        ValueError: (on construction) a bank, a register or a reason that does not exist; nothing
            accepted as a reason.
    """

    bank: str = MEASURED_BANK
    registers: frozenset[str] = frozenset(map(str, MEASURED))
    secure_boot: bool = True
    provenance: frozenset[str] = frozenset(map(str, set(Provenance) - {Provenance.UNPROVEN}))
    max_clock_s: int = 20 * 366 * 86_400

    def __post_init__(self) -> None:
        if self.bank not in _STRONG_BANKS:
            raise ValueError("no bank of registers that withstands collisions")
        if not self.registers <= set(map(str, range(REGISTERS))):
            raise ValueError("a register that no TPM has")
        if not self.provenance or not self.provenance <= set(Provenance):
            raise ValueError("a reason to trust a key that does not exist, or none")

    def check(self, claims: TpmClaims, *, at: int) -> str:  # noqa: ARG002 - a quote has no date
        """Check claims; return why they will do.

        Raises:
            Refused: with one code for each rule.
        """
        if claims.provenance not in self.provenance:
            raise Refused(Code.TPM_AK_UNPROVEN, f"the attestation key is {claims.provenance}")
        missing = self.registers - set(map(str, claims.registers.get(self.bank, {})))
        if missing:
            reason = f"registers of {self.bank} are not quoted: {_in_order(missing)}"
            raise Refused(Code.TPM_REGISTERS_MISSING, reason)
        self._check_secure_boot(claims)
        if claims.clock.milliseconds > self.max_clock_s * 1000:
            raise Refused(Code.TPM_CLOCK, f"the TPM's clock is beyond {self.max_clock_s} s")
        return f"the key is a TPM's by {claims.provenance}; secure boot is {claims.secure_boot}"

    def _check_secure_boot(self, claims: TpmClaims) -> None:
        if not self.secure_boot or claims.secure_boot:
            return
        if claims.secure_boot is None:
            raise Refused(Code.TPM_SECURE_BOOT_UNKNOWN, "nothing says whether secure boot was on")
        raise Refused(Code.TPM_SECURE_BOOT_OFF, "secure boot was off")

    def explain(self) -> tuple[str, ...]:
        """Return what is demanded, a plain sentence for each rule."""
        reasons = " or ".join(sorted(self.provenance))
        boot = "must have been on" if self.secure_boot else "may have been off"
        return (
            f"A TPM's attestation key must be shown to be one by: {reasons}.",
            f"A TPM must quote the {self.bank} registers {_in_order(self.registers)}.",
            f"Secure boot {boot}.",
            f"A TPM's clock may have run {self.max_clock_s} s at most.",
        )


def _in_order(registers: frozenset[str]) -> str:
    return ", ".join(sorted(registers, key=int)) or "none"
