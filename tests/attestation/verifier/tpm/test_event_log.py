"""The event log is replayed as the profile says, and counts where it leads to the registers."""

import hashlib
import re

import pytest

from attestation.errors import Code, MalformedEvidence
from attestation.verifier.tpm import event_log
from attestation.verifier.tpm.events import MAX_EVENTS, MAX_LOG, parse
from attestation.verifier.tpm.secure_boot import parse_variable, secure_boot
from tests.support.evidence import tpm as made
from tests.support.evidence.tpm import (
    BOOT,
    DRIVER_CONFIG,
    EFI_ACTION,
    IPL,
    NO_ACTION,
    SEPARATOR,
    SHA1,
    SHA256,
    SHA384,
    SHA512,
    Event,
    header,
    registers_of,
    u,
    variable,
)

LOG = made.event_log()
BANKS = {"sha1": SHA1, "sha256": SHA256, "sha384": SHA384, "sha512": SHA512}


def check(events=BOOT, registers=None, log=None):
    log = made.event_log(events) if log is None else log
    return event_log.check(log, registers or {"sha256": registers_of(events)})


@pytest.mark.parametrize("bank", BANKS)
def test_every_bank_is_replayed(bank):
    replayed = event_log.replay(made.event_log(algorithms=(SHA256, *{BANKS[bank]} - {SHA256})))
    expected = registers_of(BOOT, bank)
    assert replayed[bank] == {index: expected[index] for index in {e.index for e in BOOT}}


def test_the_claims_say_what_was_measured():
    claims = check()
    assert claims.bank == "sha256"
    assert claims.unexplained == ()
    assert claims.phase is None
    first, second = claims.to_json()["events"][:2]
    assert first[:2] == [0, "EV_S_CRTM_VERSION"]
    assert first[2] == hashlib.sha256(BOOT[0].data).hexdigest()
    assert "SecureBoot" in second[3]


def test_an_unknown_type_is_shown_by_its_number():
    assert check([*BOOT, Event(9, 0x99, b"")]).events[-1].type_name == "0x00000099"


def test_events_that_extend_nothing_are_left_out():
    events = [Event(0, NO_ACTION, b"hello"), Event(0xFFFFFFFF, NO_ACTION, b"x"), *BOOT]
    assert check(events).events == check().events


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_register_0_begins_with_the_locality(locality):
    events = [Event(0, NO_ACTION, b"StartupLocality\0" + bytes([locality])), *BOOT]
    registers = {"sha256": registers_of(BOOT, locality=locality)}
    assert check(events, registers).bank == "sha256"


LOCALITY = Event(0, NO_ACTION, b"StartupLocality\0\x03")


@pytest.mark.parametrize(
    "events",
    [
        [LOCALITY, LOCALITY],
        [BOOT[0], LOCALITY],
        [Event(1, NO_ACTION, LOCALITY.data)],
        [Event(0, NO_ACTION, LOCALITY.data + b"\0")],
        [Event(0, NO_ACTION, b"StartupLocality\0")],
        [Event(0, NO_ACTION, b"StartupLocality\0\x05")],
    ],
)
def test_a_locality_out_of_place_is_refused(events):
    with pytest.raises(MalformedEvidence, match="locality"):
        parse(made.event_log(events))


def test_registers_that_no_event_explains_are_named():
    registers = registers_of() | {10: b"\x01" * 32}
    assert check(registers={"sha256": registers}).unexplained == (10,)


def test_registers_that_were_not_quoted_prove_nothing_and_their_events_are_left_out():
    claims = check(registers={"sha256": {7: registers_of()[7]}})
    assert {event.index for event in claims.events} == {7}


@pytest.mark.parametrize("phases", range(1, 7))
def test_the_phases_of_a_unified_image_are_recognised(phases):
    words = event_log.PHASES[:phases]
    later = [*BOOT, *(Event(11, IPL, word) for word in words)]
    claims = check(registers={"sha256": registers_of(later)})
    assert claims.phase == words[-1].decode()
    assert claims.to_json()["phase"] == words[-1].decode()


def test_a_register_that_holds_something_else_is_refused(refusal):
    for index in {event.index for event in BOOT}:
        registers = {"sha256": registers_of() | {index: b"\x01" * 32}}
        assert refusal(check, registers=registers) is Code.TPM_EVENT_LOG_MISMATCH
    phases = [*BOOT, Event(11, IPL, b"leave-initrd")]
    code = refusal(check, registers={"sha256": registers_of(phases)})
    assert code is Code.TPM_EVENT_LOG_MISMATCH


def test_each_event_left_out_moved_or_doubled_is_refused(refusal):
    quoted = {"sha256": registers_of()}
    for at in range(len(BOOT)):
        left_out = [*BOOT[:at], *BOOT[at + 1 :]]
        doubled = [*BOOT[:at], BOOT[at], *BOOT[at:]]
        for events in (left_out, doubled):
            if any(event.index == BOOT[at].index for event in events):
                code = refusal(check, events, quoted)
                assert code is Code.TPM_EVENT_LOG_MISMATCH
            else:  # nothing is left that claims to explain this register
                assert check(events, quoted).unexplained == (BOOT[at].index,)


def test_both_banks_must_lead_to_the_registers(refusal):
    both = {"sha1": registers_of(bank="sha1"), "sha256": registers_of()}
    assert check(registers=both).bank == "sha256"
    both["sha1"] = both["sha1"] | {4: bytes(20)}
    assert refusal(check, registers=both) is Code.TPM_EVENT_LOG_MISMATCH


def test_a_log_needs_a_bank_that_was_quoted(refusal):
    code = refusal(check, registers={"sha384": registers_of(bank="sha384")})
    assert code is Code.TPM_EVENT_LOG_BANK


@pytest.mark.parametrize("kind", [SEPARATOR, 0x5, 0x8, 0x12, DRIVER_CONFIG, 0x8000000C, EFI_ACTION])
def test_data_that_is_not_what_was_measured_is_refused(kind, refusal):
    events = [*BOOT, Event(2, kind, b"said", b"measured")]
    assert refusal(check, events) is Code.TPM_EVENT_DATA_MISMATCH


def test_malformed_logs_have_their_code(refusal):
    assert refusal(check, log=b"", registers={"sha256": {}}) is Code.TPM_EVENT_LOG_MALFORMED


def with_sizes(*pairs):
    return b"".join(u(algorithm, 2, "little") + u(size, 2, "little") for algorithm, size in pairs)


@pytest.mark.parametrize(
    "head",
    [
        header(signature=b"Spec ID Event02\0"),
        header(version=bytes([0, 0, 0, 0, 1, 2, 0, 2])),
        header(version=bytes([0, 0, 0, 0, 0, 1, 0, 2])),
        header(version=bytes([0, 0, 0, 0, 0, 2, 0, 3])),
        header(count=u(0, 4), algorithms=b""),
        header(count=u(9, 4, "little")),
        header(count=u(1, 4, "little"), algorithms=with_sizes((0x12, 32))),
        header(algorithms=with_sizes((4, 20), (4, 20))),
        header(algorithms=with_sizes((4, 20), (11, 20))),
        header(algorithms=with_sizes((11, 32), (0x12, 65))),
        header(algorithms=with_sizes((11, 32), (0x12, 0))),
        header(vendor=b"\x01"),
        header(vendor=b"\x00\x00"),
        header()[:8] + b"\x01" + header()[9:],
        u(0, 4) + u(4, 4, "little") + header()[8:],
        b"",
    ],
)
def test_another_beginning_is_refused(head):
    with pytest.raises(MalformedEvidence):
        parse(head + b"".join(event.encode((SHA1, SHA256)) for event in BOOT))


def test_a_bank_that_is_not_known_is_skipped():
    sizes = with_sizes((0x12, 32), (11, 32))
    body = u(4, 4, "little") + u(SEPARATOR, 4, "little") + u(2, 4, "little")
    body += u(0x12, 2, "little") + bytes(32) + u(11, 2, "little")
    body += hashlib.sha256(bytes(4)).digest() + u(4, 4, "little") + bytes(4)
    parsed = parse(header(algorithms=sizes) + body)
    assert parsed.banks == ("sha256",)
    assert list(parsed.events[0].digests) == ["sha256"]


def event(*, index=4, kind=IPL, count=2, first=4, second=11, size=4, data=bytes(4)):
    digests = u(first, 2, "little") + bytes(20) + u(second, 2, "little") + bytes(32)
    head = u(index, 4, "little") + u(kind, 4, "little") + u(count, 4, "little")
    return head + digests + u(size, 4, "little") + data


@pytest.mark.parametrize(
    "body",
    [
        event(index=24),
        event(index=0xFFFFFFFF),
        event(count=1),
        event(count=0xFFFFFFFF),
        event(first=11),
        event(second=4),
        event(size=1_000_000_000),
        event(size=5),
        event()[:-1],
        event() + b"\x01",
    ],
)
def test_another_event_is_refused(body):
    with pytest.raises(MalformedEvidence):
        parse(header() + body)


def test_logs_are_bounded():
    with pytest.raises(MalformedEvidence, match="too long"):
        parse(LOG + bytes(MAX_LOG))
    small = event(size=0, data=b"")
    with pytest.raises(MalformedEvidence, match="too many"):
        parse(header() + small * (MAX_EVENTS + 1))
    assert len(parse(header() + small * 100).events) == 100


@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
@pytest.mark.parametrize("length", [1, 3, 11, 12, 13, 4096])
def test_padding_behind_the_log_is_of_one_kind(filling, length):
    assert parse(LOG + filling * length) == parse(LOG)
    for wrong in (b"\x01", b"\0\xff", b"\xff\0"):
        with pytest.raises(MalformedEvidence):
            parse(LOG + filling * length + wrong)


def test_every_truncation_is_refused_unless_it_ends_an_event():
    ends = set()
    at = len(header())
    for each in BOOT:
        ends.add(at)
        at += len(each.encode((SHA1, SHA256)))
    for length in range(len(LOG)):
        if length not in ends:
            # What is cut off inside an event can look like filling: zeros alone, at its beginning.
            if re.fullmatch(rb"\0*", LOG[max(e for e in (0, *ends) if e <= length) : length]):
                continue
            with pytest.raises(MalformedEvidence):
                parse(LOG[:length])


# The log of a confidential guest

CCEL = made.event_log((Event(1, IPL, b"a"), Event(3, IPL, b"b"), Event(1, IPL, b"c")), (SHA384,))


def test_the_registers_of_a_trust_domain_are_one_lower():
    rtmrs = event_log.replay_rtmrs(CCEL + b"\xff" * 100)
    held = registers_of((Event(1, IPL, b"a"), Event(3, IPL, b"b"), Event(1, IPL, b"c")), "sha384")
    assert rtmrs == {0: held[1], 1: bytes(48), 2: held[3], 3: bytes(48)}


@pytest.mark.parametrize(
    "log",
    [
        made.event_log((Event(0, IPL, b"a"),), (SHA384,)),
        made.event_log((Event(5, IPL, b"a"),), (SHA384,)),
        made.event_log((Event(1, IPL, b"a"),), (SHA256,)),
    ],
)
def test_the_log_of_a_trust_domain_has_its_registers_only(log):
    with pytest.raises(MalformedEvidence, match="RTMR"):
        event_log.replay_rtmrs(log)


# Secure boot

ON, OFF = (Event(7, DRIVER_CONFIG, variable("SecureBoot", value)) for value in (b"\x01", b"\x00"))
END = Event(7, SEPARATOR, bytes(4))


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([ON, END], True),
        ([OFF, END], False),
        ([Event(7, DRIVER_CONFIG, variable("SecureBoot", b"")), END], False),
        ([END, ON], None),
        ([OFF, END, ON], False),
        ([Event(1, DRIVER_CONFIG, ON.data)], None),
        ([Event(7, EFI_ACTION, ON.data)], None),
        ([Event(7, DRIVER_CONFIG, variable("SecureBoot", b"\x01", bytes(16)))], None),
        ([Event(7, DRIVER_CONFIG, variable("SetupMode", b"\x01"))], None),
    ],
)
def test_the_state_of_secure_boot_is_read_before_the_separator(events, state):
    assert secure_boot(check(events)) is state


def test_secure_boot_is_measured_once(refusal):
    assert refusal(secure_boot, check([OFF, ON, END])) is Code.TPM_SECURE_BOOT_AMBIGUOUS


@pytest.mark.parametrize(
    "data",
    [
        ON.data[:-1],
        ON.data + b"\0",
        bytes(16) + u(513, 8, "little") + bytes(8),
        bytes(16) + bytes(8) + b"\xff" * 8,
    ],
)
def test_a_variable_of_another_form_is_refused(data, refusal):
    with pytest.raises(MalformedEvidence):
        parse_variable(data)
    code = refusal(secure_boot, check([Event(7, DRIVER_CONFIG, data)]))
    assert code is Code.TPM_EVENT_LOG_MALFORMED
