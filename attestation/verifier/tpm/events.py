"""The events of a firmware's log: their format, and the registers that come of them.

TCG PC Client Platform Firmware Profile 1.06, section 10 (crypto-agile format; little-endian):

    log = TCG_PCClientPCREvent (header), TCG_PCR_EVENT2 *, padding
    header = index u32, EV_NO_ACTION u32, 20 zeros, size u32, TCG_EfiSpecIDEvent
    TCG_EfiSpecIDEvent = "Spec ID Event03" 0, platformClass u32, minor u8, major u8, errata u8,
                         uintnSize u8, count u32, (algorithm u16, size u16) *, size u8, vendor info
    TCG_PCR_EVENT2 = index u32, type u32, count u32, (algorithm u16, digest) *, size u32, data

The CCEL of a confidential guest has the same format. There an index names a measurement register
(0 MRTD, 1 to 4 RTMR0 to RTMR3), and its area is filled up behind the last event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from attestation.errors import MalformedEvidence
from attestation.verifier.tpm.algorithms import BANKS, REGISTERS, SIZES
from attestation.verifier.tpm.reader import Reader

MAX_LOG = 1 << 20
MAX_EVENTS = 10_000
MAX_EVENT = 1 << 18
"""Bytes, events, and bytes of one event's data. A long log has 200 kB in 300 events."""

MAX_ALGORITHMS = 8
SIGNATURE = b"Spec ID Event03\0"
LOCALITY = b"StartupLocality\0"
_LOCALITIES = frozenset({0, 3, 4})


class EventType(IntEnum):
    """The types of events that are named in claims (section 10.4.1)."""

    EV_POST_CODE = 0x1
    EV_NO_ACTION = 0x3
    EV_SEPARATOR = 0x4
    EV_ACTION = 0x5
    EV_EVENT_TAG = 0x6
    EV_S_CRTM_CONTENTS = 0x7
    EV_S_CRTM_VERSION = 0x8
    EV_CPU_MICROCODE = 0x9
    EV_PLATFORM_CONFIG_FLAGS = 0xA
    EV_TABLE_OF_DEVICES = 0xB
    EV_COMPACT_HASH = 0xC
    EV_IPL = 0xD
    EV_NONHOST_CODE = 0xF
    EV_NONHOST_CONFIG = 0x10
    EV_NONHOST_INFO = 0x11
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x12
    EV_POST_CODE2 = 0x13
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000000C
    EV_EFI_GPT_EVENT2 = 0x8000000D
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0


OF_DATA = frozenset(
    {
        EventType.EV_SEPARATOR,
        EventType.EV_ACTION,
        EventType.EV_S_CRTM_VERSION,
        EventType.EV_OMIT_BOOT_DEVICE_EVENTS,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EV_EFI_VARIABLE_BOOT2,
        EventType.EV_EFI_GPT_EVENT,
        EventType.EV_EFI_ACTION,
    }
)
"""The types whose digest is over the event's data, and over nothing else. Boot loaders measure
files and commands as EV_IPL and firmware its tables in ways of their own: those are not here."""


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        index: the register it was extended into.
        type: what kind of event.
        digests: what the register was extended by, in each bank that is known here.
        data: what the firmware wrote about it.
    """

    index: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes

    @property
    def type_name(self) -> str:
        """The type's name in the profile, or its number."""
        known = self.type in EventType.__members__.values()
        return EventType(self.type).name if known else f"{self.type:#010x}"

    @property
    def description(self) -> str:
        """The first printable words of the data, for a person; nothing vouches for them."""
        text = self.data[:512].replace(b"\0", b"").decode("latin-1")
        return "".join(mark for mark in text if mark.isascii() and mark.isprintable())[:80]


@dataclass(frozen=True)
class EventLog:
    """A log, parsed: nothing in it has been checked against a register.

    Attributes:
        banks: the banks that its digests are of.
        locality: the locality from which the TPM was started: register 0 begins with it.
        events: the events that extended a register, in their order.
    """

    banks: tuple[str, ...]
    locality: int
    events: tuple[Event, ...]

    def replay(self) -> dict[str, dict[int, bytes]]:
        """Return what the registers hold after these events; those without an event are left out.

        Registers begin as zeros; so do 17 to 22, which only a dynamic launch clears, since only
        after one can the firmware extend them.
        """
        registers: dict[str, dict[int, bytes]] = {bank: {} for bank in self.banks}
        for event in self.events:
            for bank, digest in event.digests.items():
                before = registers[bank].get(event.index, self._initial(bank, event.index))
                registers[bank][event.index] = extend(bank, before, digest)
        return registers

    def _initial(self, bank: str, index: int) -> bytes:
        return (self.locality if index == 0 else 0).to_bytes(SIZES[bank], "big")


def extend(bank: str, register: bytes, digest: bytes) -> bytes:
    """Return what a register holds after one more digest: H(register || digest)."""
    return hashlib.new(bank, register + digest).digest()


def parse(log: bytes) -> EventLog:
    """Parse a log.

    Raises:
        MalformedEvidence: not of the format; too long; too many events; without a digest of a
            known bank; an event that lacks a bank's digest; an index that no TPM has; behind the
            last event anything but zeros alone or 0xFF alone.
    """
    if len(log) > MAX_LOG:
        raise MalformedEvidence("event log: too long")
    reader = Reader(log, "event log", order="little")
    sizes = _parse_header(reader)
    events = tuple(_parse_events(reader, sizes))
    banks = tuple(BANKS[algorithm] for algorithm in sizes if algorithm in BANKS)
    measured = tuple(event for event in events if event.type != EventType.EV_NO_ACTION)
    return EventLog(banks, _find_locality(events), measured)


def _parse_header(reader: Reader) -> dict[int, int]:
    reader.integer(4)  # 0, but 1 in some logs of confidential guests
    if reader.integer(4) != EventType.EV_NO_ACTION or reader.take(20) != bytes(20):
        raise MalformedEvidence("event log: it does not begin as a crypto-agile log")
    header = Reader(reader.sized(at_most=MAX_EVENT, length=4), "TCG_EfiSpecIDEvent", order="little")
    if header.take(len(SIGNATURE)) != SIGNATURE:
        raise MalformedEvidence("event log: it does not begin as a crypto-agile log")
    _, minor, major, _, word = (header.integer(length) for length in (4, 1, 1, 1, 1))
    if (major, minor) != (2, 0) or word not in {1, 2}:
        raise MalformedEvidence("event log: of another version")
    sizes = _parse_algorithms(header)
    header.sized(at_most=255, length=1)
    header.finish()
    return sizes


def _parse_algorithms(header: Reader) -> dict[int, int]:
    count = header.integer(4)
    if not 1 <= count <= MAX_ALGORITHMS:
        raise MalformedEvidence("event log: no algorithm, or too many")
    pairs = [(header.integer(2), header.integer(2)) for _ in range(count)]
    sizes = dict(pairs)
    if len(sizes) != count or not sizes.keys() & BANKS.keys():
        raise MalformedEvidence("event log: an algorithm twice, or none that is known")
    for algorithm, size in pairs:
        if size != SIZES.get(BANKS.get(algorithm, ""), size) or not 1 <= size <= 64:
            raise MalformedEvidence("event log: a digest of an impossible length")
    return sizes


def _parse_events(reader: Reader, sizes: Mapping[int, int]) -> Iterator[Event]:
    count = 0
    while reader.remaining and not _is_padding(reader):
        count += 1
        if count > MAX_EVENTS:
            raise MalformedEvidence("event log: too many events")
        yield _parse_event(reader, sizes)


def _is_padding(reader: Reader) -> bool:
    """Say whether everything that is left is filling. No event begins like it."""
    begin = reader.peek(12)
    for filling in (b"\0", b"\xff"):
        if begin == filling * len(begin):
            if reader.rest().strip(filling):
                raise MalformedEvidence("event log: something behind its end")
            return True
    return False


def _parse_event(reader: Reader, sizes: Mapping[int, int]) -> Event:
    index, kind, count = (reader.integer(4) for _ in range(3))
    if index >= REGISTERS and not (index == 0xFFFFFFFF and kind == EventType.EV_NO_ACTION):
        raise MalformedEvidence("event log: a register that no TPM has")
    if count != len(sizes):
        raise MalformedEvidence("event log: an event without a digest for each bank")
    digests = _parse_digests(reader, sizes)
    return Event(index, kind, digests, reader.sized(at_most=MAX_EVENT, length=4))


def _parse_digests(reader: Reader, sizes: Mapping[int, int]) -> Mapping[str, bytes]:
    digests = {}
    for _ in sizes:
        algorithm = reader.integer(2)
        if algorithm not in sizes or algorithm in digests:
            raise MalformedEvidence("event log: a digest of another bank, or one twice")
        digests[algorithm] = reader.take(sizes[algorithm])
    return {BANKS[each]: digest for each, digest in digests.items() if each in BANKS}


def _find_locality(events: tuple[Event, ...]) -> int:
    """Return what StartupLocality events say (section 10.4.5.3); zero without one."""
    found: int | None = None
    extended = False
    for event in events:
        if event.type == EventType.EV_NO_ACTION and event.data.startswith(LOCALITY):
            locality = event.data[len(LOCALITY) :]
            if extended or found is not None or event.index != 0 or len(locality) != 1:
                raise MalformedEvidence("event log: a startup locality out of place")
            found = locality[0]
        extended |= event.index == 0 and event.type != EventType.EV_NO_ACTION
    if found is not None and found not in _LOCALITIES:
        raise MalformedEvidence("event log: a locality from which no TPM is started")
    return found or 0
