"""The event log: what the firmware measured, held against the registers of a quote.

A log in itself proves nothing: its digests count when their replay gives the registers of a quote.
Even then an event's *data* is only what somebody wrote beside the digest. It is a claim where the
profile makes the digest that of the data (`OF_DATA`), and is checked there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm.algorithms import SIZES
from attestation.verifier.tpm.events import OF_DATA, Event, extend, parse

Registers = Mapping[str, Mapping[int, bytes]]
"""Values of registers: by bank (`sha256`, ...), then by index."""

PHASES = (b"enter-initrd", b"leave-initrd", b"sysinit", b"ready", b"shutdown", b"final")
PHASE_REGISTER = 11
"""A unified kernel image is measured into register 11, and then, by the running system and so
not in the firmware's log, the phases of its boot, in this order (systemd-pcrphase.service)."""


@dataclass(frozen=True)
class EventLogClaims:
    """A log whose replay gives the registers it was held against.

    Attributes:
        events: the events of registers that were given. Others prove nothing and are left out.
        bank: the strongest bank it was held against.
        unexplained: the registers that were given, hold something, and have no event.
        phase: how far the boot of a unified kernel image got, if register 11 says so.
    """

    events: tuple[Event, ...]
    bank: str
    unexplained: tuple[int, ...]
    phase: str | None

    def to_json(self) -> dict[str, object]:
        """Return the JSON form: an event is index, type, digest and description."""
        return {
            "bank": self.bank,
            "events": [
                [event.index, event.type_name, event.digests[self.bank].hex(), event.description]
                for event in self.events
            ],
            "unexplained": list(self.unexplained),
            "phase": self.phase,
        }


def replay(log: bytes) -> Mapping[str, Mapping[int, bytes]]:
    """Return the registers that come of a log, by bank and index.

    Raises:
        MalformedEvidence: see `parse`.
    """
    return parse(log).replay()


def replay_rtmrs(log: bytes) -> Mapping[int, bytes]:
    """Return the SHA-384 registers RTMR0 to RTMR3 (as 0 to 3) that come of a CCEL.

    Raises:
        MalformedEvidence: see `parse`; not of SHA-384; an event of a register that is none of
            these. (MRTD is fixed before the first of them.)
    """
    registers = parse(log).replay().get("sha384")
    if registers is None or not registers.keys() <= {1, 2, 3, 4}:
        raise MalformedEvidence("event log: not of the registers RTMR0 to RTMR3 in SHA-384")
    return {index: registers.get(index + 1, bytes(48)) for index in range(4)}


def check(log: bytes, registers: Registers) -> EventLogClaims:
    """Hold a log against registers that a quote has vouched for.

    Every bank that both have must agree. A register that was not quoted is not looked at.

    Args:
        log: the log's own bytes.
        registers: the quoted values.

    Raises:
        Refused: malformed; a register holds something else than the events make of it; an event's
            data is not what was measured; no bank in common.
    """
    try:
        parsed = parse(log)
    except MalformedEvidence as error:
        raise Refused(Code.TPM_EVENT_LOG_MALFORMED, str(error)) from error
    banks = [bank for bank in SIZES if bank in parsed.banks and registers.get(bank)]
    if not banks:
        raise Refused(Code.TPM_EVENT_LOG_BANK, "the log has no digest for the quoted banks")
    replayed = parsed.replay()
    phases = [_check_bank(bank, replayed[bank], registers[bank]) for bank in banks]
    strongest = registers[banks[-1]]
    events = tuple(event for event in parsed.events if event.index in strongest)
    for event in events:
        _check_data(event)
    held = {index for index, value in strongest.items() if _is_extended(value)}
    unexplained = tuple(sorted(held - replayed[banks[-1]].keys()))
    return EventLogClaims(events, banks[-1], unexplained, phases[-1])


def _check_bank(
    bank: str, replayed: Mapping[int, bytes], registers: Mapping[int, bytes]
) -> str | None:
    phase = None
    for index in replayed.keys() & registers.keys():
        value, quoted = replayed[index], registers[index]
        if index == PHASE_REGISTER and quoted != value:
            phase = _phase_of(bank, value, quoted)
        elif quoted != value:
            reason = f"the log does not lead to the quoted register {index} of {bank}"
            raise Refused(Code.TPM_EVENT_LOG_MISMATCH, reason)
    return phase


def _phase_of(bank: str, replayed: bytes, quoted: bytes) -> str:
    register = replayed
    for phase in PHASES:
        register = extend(bank, register, hashlib.new(bank, phase).digest())
        if register == quoted:
            return phase.decode()
    reason = f"the log does not lead to the quoted register {PHASE_REGISTER} of {bank}"
    raise Refused(Code.TPM_EVENT_LOG_MISMATCH, reason)


def _check_data(event: Event) -> None:
    if event.type not in OF_DATA:
        return
    for bank, digest in event.digests.items():
        if hashlib.new(bank, event.data).digest() != digest:
            reason = f"an {event.type_name} of register {event.index} says other than was measured"
            raise Refused(Code.TPM_EVENT_DATA_MISMATCH, reason)


def _is_extended(value: bytes) -> bool:
    return value.strip(b"\0") != b"" and value.strip(b"\xff") != b""
