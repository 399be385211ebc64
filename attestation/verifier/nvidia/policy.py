"""What is accepted of a GPU, and what a GPU's report cannot show.

Confidential mode and devtools. No field of a report says that confidential mode is on, or that
`devtools` is off, which is the same mode with profiling and debugging let in. On Hopper, NVIDIA
says, measurement 9 covers the mode, and the VBIOS's manifest states its golden value for `on`. A
report that was compared with that measurement therefore shows both. On Blackwell no measurement is
published to cover it. There, only the release can vouch: the worker asks the driver and refuses to
start unless the mode is on and devtools are off (`attestation.attester.nvidia`), and the quote
shows that it was this worker. A policy that is content with that names the architecture in
`mode_by_release`. The default names none, and so refuses Blackwell.

Links between GPUs. A report says whether the GPU is alone (`spt`), has encrypted links (`mpt`), or
has links in clear through switches (`ppcie`); the switches' own reports are not verified here. Old
drivers say nothing (`unstated`). The default accepts the first two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from attestation.errors import Code, Refused
from attestation.verifier.nvidia.claims import GpuClaims

AT_CHECK, AT_LOGGING = "now", "logged"

_DRIVERS = MappingProxyType({"hopper": 550_000_000, "blackwell": 570_000_000})
"""The first branches whose reports state firmware id and links, and that know Blackwell."""


@dataclass(frozen=True)
class GpuPolicy:
    """What a relying party demands of each GPU. The default is the strict one.

    Attributes:
        architectures: those that are accepted.
        minimum_driver: for each architecture the oldest driver, three digits for each part of its
            version: 550.90.07 is 550090007. One that is not named may have any.
        multi_gpu_modes: how a GPU may be joined to others.
        confidential_mode: that confidential mode is on must be shown.
        no_devtools: that devtools are off must be shown.
        mode_by_release: the architectures of which both are taken from the release's own word.
        rim: the measurements must be those of the manifests of driver and VBIOS.
        rim_time: when a manifest's signer must have been valid: `now`, or `logged`, when the
            manifest was logged.
        ocsp: OCSP responses must be there for the GPU's chain and for the manifests' chains.
        max_ocsp_age_s: how old the oldest of them may be.

    Raises:
        ValueError: (on construction) a `rim_time` that does not exist.
    """

    architectures: frozenset[str] = frozenset({"hopper", "blackwell"})
    minimum_driver: Mapping[str, int] = field(default_factory=lambda: _DRIVERS)
    multi_gpu_modes: frozenset[str] = frozenset({"spt", "mpt"})
    confidential_mode: bool = True
    no_devtools: bool = True
    mode_by_release: frozenset[str] = frozenset()
    rim: bool = True
    rim_time: str = AT_CHECK
    ocsp: bool = True
    max_ocsp_age_s: int = 24 * 3600

    def __post_init__(self) -> None:
        if self.rim_time not in {AT_CHECK, AT_LOGGING}:
            raise ValueError("rim_time is neither `now` nor `logged`")

    def check(self, claims: GpuClaims, *, at: int) -> str:
        """Check a GPU's verified claims; return why it is acceptable.

        Raises:
            Refused: it is not; one code for each rule.
        """
        self._check_kind(claims)
        self._check_measurements(claims)
        self._check_mode(claims)
        self._check_revocation(claims, at)
        return f"{claims.chip}, driver {claims.driver_version}, VBIOS {claims.vbios_version}"

    def explain(self) -> tuple[str, ...]:
        """Return what is demanded, one plain sentence for each rule."""
        drivers = ", ".join(f"{name} {_written(n)}" for name, n in self.minimum_driver.items())
        released = ", ".join(sorted(self.mode_by_release)) or "no architecture"
        when = "when they were logged" if self.rim_time == AT_LOGGING else "now"
        hours = self.max_ocsp_age_s / 3600
        return (
            f"A GPU is of one of these architectures: {_listed(self.architectures)}.",
            f"Its driver is not older than: {drivers or 'any'}.",
            f"It is joined to other GPUs in one of these ways: {_listed(self.multi_gpu_modes)}.",
            _demand(self.confidential_mode, "That confidential mode is on {} shown."),
            _demand(self.no_devtools, "That devtools are off {} shown."),
            f"The release's own word for these two is taken of {released}.",
            _demand(self.rim, "Golden measurements of driver and VBIOS {} met."),
            f"The signers of the golden measurements were valid {when}.",
            _demand(self.ocsp, "Answers about revocation {} there for each chain."),
            f"The oldest answer about revocation is not older than {hours:g} hours.",
        )

    def _check_kind(self, claims: GpuClaims) -> None:
        if claims.architecture not in self.architectures:
            reason = f"the architecture {claims.architecture} is not accepted"
            raise Refused(Code.GPU_ARCHITECTURE_REFUSED, reason)
        oldest = self.minimum_driver.get(claims.architecture)
        if oldest is not None and driver_number(claims.driver_version) < oldest:
            reason = f"driver {claims.driver_version or 'unknown'}, not {_written(oldest)} or later"
            raise Refused(Code.GPU_DRIVER_TOO_OLD, reason)
        if claims.multi_gpu_mode not in self.multi_gpu_modes:
            reason = f"joined to other GPUs by {claims.multi_gpu_mode}, which is not accepted"
            raise Refused(Code.GPU_MULTI_GPU_MODE_REFUSED, reason)

    def _check_measurements(self, claims: GpuClaims) -> None:
        if self.rim and claims.match is None:
            reason = "no manifests of its driver and VBIOS to compare its measurements with"
            raise Refused(Code.GPU_RIM_MISSING, reason)

    def _check_mode(self, claims: GpuClaims) -> None:
        measured = claims.match is not None and claims.match.mode_measured
        if measured or claims.architecture in self.mode_by_release:
            return
        if self.confidential_mode:
            reason = "nothing shows that confidential mode is on"
            raise Refused(Code.GPU_CONFIDENTIAL_MODE_NOT_SHOWN, reason)
        if self.no_devtools:
            raise Refused(Code.GPU_DEVTOOLS_NOT_EXCLUDED, "nothing shows that devtools are off")

    def _check_revocation(self, claims: GpuClaims, at: int) -> None:
        since = claims.revocation_checked_at
        if since is None:
            if self.ocsp:
                reason = "an OCSP response is missing for its chain or its manifests'"
                raise Refused(Code.GPU_OCSP_MISSING, reason)
        elif at - since > self.max_ocsp_age_s:
            reason = f"OCSP responses {at - since} s old, more than {self.max_ocsp_age_s} s"
            raise Refused(Code.GPU_OCSP_TOO_OLD, reason)


def driver_number(version: str) -> int:
    """Return a driver's version as a number: 550.90.07 is 550090007; what is no version, -1."""
    parts = version.split(".")
    if not 1 <= len(parts) <= 3 or not all(p.isascii() and p.isdigit() for p in parts):
        return -1
    numbers = [min(int(part), 999) for part in (*parts, "0", "0")[:3]]
    return numbers[0] * 1_000_000 + numbers[1] * 1_000 + numbers[2]


def _written(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1_000 % 1_000:02}.{number % 1_000:02}"


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _demand(demanded: bool, sentence: str) -> str:
    return sentence.format("must be" if demanded else "need not be")
