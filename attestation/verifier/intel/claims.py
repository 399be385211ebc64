"""What a verified quote states."""

from __future__ import annotations

from dataclasses import dataclass, fields

from attestation.errors import Code, Refused
from attestation.verifier.intel.quote import Report

_NUMBERS = frozenset({"isv_prod_id", "isv_svn", "misc_select", "vmid"})


@dataclass(frozen=True)
class IntelClaims:
    """The claims of a quote that is authentic. Whether they will do is a policy's to say.

    Attributes:
        version: of the quote: 3, 4 or 5.
        tee: `TDX` or `SGX`.
        report: the trust domain or enclave, as the processor measured it.
        fmspc: the kind of platform, 12 upper-case hexadecimal digits.
        status: of the platform's TCB, converged with the module's and the quoting enclave's:
            `UpToDate`, `SWHardeningNeeded`, ...
        advisory_ids: Intel's advisories that the platform is open to.
        tcb_evaluation_number: by which of Intel's TCB recoveries the status was judged.
        dynamic_platform: whether further processors can be added; None if the PCK does not say.
        collateral_issued_at: when the oldest of TCB info, QE identity and PCK list was issued.
        valid_from: unix seconds; before, something in the chains or the collateral was not valid.
        valid_until: unix seconds; later, something no longer is.
    """

    version: int
    tee: str
    report: Report
    fmspc: str
    status: str
    advisory_ids: tuple[str, ...]
    tcb_evaluation_number: int
    dynamic_platform: bool | None
    collateral_issued_at: int
    valid_from: int
    valid_until: int

    def check_dates(self, *, at: int) -> None:
        """Check the dates of chains and collateral at unix time `at`.

        Raises:
            Refused: one is not valid yet, or not any more.
        """
        if at < self.valid_from:
            raise Refused(Code.TDX_COLLATERAL_NOT_YET_VALID, "the collateral is from the future")
        if at > self.valid_until:
            raise Refused(Code.TDX_COLLATERAL_EXPIRED, "the collateral has expired")

    def to_json(self) -> dict[str, object]:
        """Return the claims for a JSON text: bytes in hexadecimal, the report's members inline."""
        claims: dict[str, object] = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "report"
        }
        claims["advisory_ids"] = list(self.advisory_ids)
        return claims | {
            name: value
            for name, value in report_members(self.report).items()
            if not name.startswith("reserved")
        }


def report_members(report: Report) -> dict[str, str | int]:
    """Return a report's members as text and numbers, by their names."""
    members: dict[str, str | int] = {}
    for each in fields(report):
        value: bytes = getattr(report, each.name)
        number = each.name in _NUMBERS
        members[each.name] = int.from_bytes(value, "little") if number else value.hex()
    return members
