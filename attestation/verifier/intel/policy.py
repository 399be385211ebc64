"""What a relying party demands of a TDX platform beyond an authentic quote."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import Code, Refused
from attestation.verifier.intel.attributes import (
    KEY_LOCKER,
    PERFMON,
    PROVISIONING_AGENT,
    td_attributes,
)
from attestation.verifier.intel.claims import IntelClaims
from attestation.verifier.intel.quote import EnclaveReport, TdReport

DAY_S = 24 * 3600


@dataclass(frozen=True)
class TdxPolicy:
    """What a trust domain and its platform must be. The default is the strict one.

    An SGX enclave is never accepted: a node is a whole machine. Debug mode, profiling, migration,
    service TDs and exceptions injected by the host are refused before any policy is asked.

    Attributes:
        accepted_statuses: TCB statuses, by Intel's names.
        refused_advisories: Intel's advisories to which the platform must not be open, where a
            status that has some is accepted.
        min_tcb_evaluation_number: the oldest of Intel's TCB recoveries to be judged by; 17 asks for
            the updates of March 2024. The age of the collateral asks for more.
        max_collateral_age_s: how old TCB info, QE identity and the PCK list may be.
        allow_dynamic_platform: a machine to which its owner may add processors that Intel
            registers. Servers with several sockets are such; without, hardly one is left.
        allow_perfmon: the trust domain may use the processor's performance counters.
        allow_key_locker: the trust domain may use Key Locker.
        allow_provisioning_agent: the trust domain may provision devices (TDX Connect).
    """

    accepted_statuses: frozenset[str] = frozenset({"UpToDate"})
    refused_advisories: frozenset[str] = frozenset()
    min_tcb_evaluation_number: int = 17
    max_collateral_age_s: int = 7 * DAY_S
    allow_dynamic_platform: bool = True
    allow_perfmon: bool = False
    allow_key_locker: bool = False
    allow_provisioning_agent: bool = False

    def check(self, claims: IntelClaims, *, at: int) -> str:
        """Check claims against this policy at unix time `at`; return the reason they will do.

        Raises:
            Refused: with the code of the rule that is broken.
        """
        if isinstance(claims.report, EnclaveReport):
            raise Refused(Code.TDX_NOT_A_TD, "an SGX enclave, not a TDX trust domain")
        self._check_tcb(claims)
        self._check_age(claims, at)
        if claims.dynamic_platform and not self.allow_dynamic_platform:
            raise Refused(Code.TDX_DYNAMIC_PLATFORM, "processors may be added to the platform")
        self._check_attributes(claims.report)
        return f"TCB {claims.status}, judged by recovery {claims.tcb_evaluation_number}"

    def explain(self) -> tuple[str, ...]:
        """Return each rule as one plain sentence."""
        statuses = " or ".join(sorted(self.accepted_statuses)) or "nothing"
        advisories = " and ".join(sorted(self.refused_advisories)) or "none in particular"
        days = self.max_collateral_age_s / DAY_S
        return (
            "The quote is of a TDX trust domain, not of an SGX enclave.",
            "The trust domain is not in debug mode, profiled, migratable or bound to service TDs.",
            "The trust domain has SEPT_VE_DISABLE, so that the host cannot inject exceptions.",
            f"The platform's TCB status is {statuses}.",
            f"Advisories that the platform must not be open to: {advisories}.",
            f"The TCB is judged by recovery {self.min_tcb_evaluation_number} or a later one.",
            f"Intel's collateral is at most {days:g} days old.",
            _rule(self.allow_dynamic_platform, "A platform to which processors can be added"),
            _rule(self.allow_perfmon, "A trust domain with performance counters"),
            _rule(self.allow_key_locker, "A trust domain with Key Locker"),
            _rule(self.allow_provisioning_agent, "A trust domain that provisions devices"),
        )

    def _check_tcb(self, claims: IntelClaims) -> None:
        if claims.status not in self.accepted_statuses:
            raise Refused(Code.TDX_TCB_STATUS, f"the platform's TCB is {claims.status}")
        refused = self.refused_advisories.intersection(claims.advisory_ids)
        if refused:
            raise Refused(Code.TDX_ADVISORY, f"the platform is open to {min(refused)}")
        number = claims.tcb_evaluation_number
        if number < self.min_tcb_evaluation_number:
            raise Refused(
                Code.TDX_TCB_EVALUATION_TOO_OLD, f"the TCB is judged by the old recovery {number}"
            )

    def _check_age(self, claims: IntelClaims, at: int) -> None:
        age = at - claims.collateral_issued_at
        if age > self.max_collateral_age_s:
            raise Refused(
                Code.TDX_COLLATERAL_TOO_OLD,
                f"the collateral is {age} s old, above {self.max_collateral_age_s} s",
            )

    def _check_attributes(self, report: TdReport) -> None:
        for allowed, bit, code, what in (
            (self.allow_perfmon, PERFMON, Code.TDX_PERFMON, "use performance counters"),
            (self.allow_key_locker, KEY_LOCKER, Code.TDX_KEY_LOCKER, "use Key Locker"),
            (
                self.allow_provisioning_agent,
                PROVISIONING_AGENT,
                Code.TDX_PROVISIONING_AGENT,
                "provision devices",
            ),
        ):
            if td_attributes(report) & bit and not allowed:
                raise Refused(code, f"the trust domain may {what}")


def _rule(allowed: bool, what: str) -> str:
    return f"{what} is {'accepted' if allowed else 'refused'}."
