"""The decoders of TPM evidence: structures, event logs, Azure's and Google's.

Seeds that are signed are made once: with random signatures, no run could be made again.
"""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import MalformedEvidence, Refused
from attestation.verifier.tpm import attest, events, instance, keys, protobuf, provenance
from attestation.verifier.tpm.azure_evidence import AzureEvidence
from attestation.verifier.tpm.events import EventLog
from attestation.verifier.tpm.evidence import TpmEvidence, decode_registers
from attestation.verifier.tpm.gce import GceEvidence
from attestation.verifier.tpm.hcl import HclReport, RuntimeData
from attestation.verifier.tpm.reader import Reader
from attestation.verifier.tpm.secure_boot import parse_variable
from tests.fuzz.target import Target
from tests.support.evidence import tpm as made
from tests.support.evidence.authority import ec_key
from wire import canonical_json
from wire.errors import Malformed

MALFORMED = (MalformedEvidence,)
REFUSED = (MalformedEvidence, Refused)
TPM = "attestation.verifier.tpm"
KEYS = (made.Key(), made.rsa_attestation_key())
MACHINE = made.Machine()
DEVICE = made.Key(ec_key("device", ec.SECP256R1()))
LOGS = (
    made.event_log(padding=b"\xff" * 9),
    made.event_log((made.Event(0, made.NO_ACTION, b"StartupLocality\0\x03"), *made.BOOT[:4])),
)
LONG = made.tlv(0x30, made.tlv(0x0C, b"z" * 130) + made.instance_extension()[0].value[11:])


def selections() -> list[bytes]:
    return [made.selection({made.SHA256: range(24)}), made.selection({4: (0,), 11: (7, 23)})]


def read_log(data: bytes) -> EventLog:
    log = events.parse(data)
    replayed = log.replay()
    assert replayed.keys() == set(log.banks)
    for event in log.events:
        assert event.type_name
        assert event.description.isprintable()
    return log


@cache
def azure_evidence() -> list[bytes]:
    machine = made.AzureMachine()
    return [machine.evidence(), canonical_json.encode(machine.older_members())]


@cache
def google_evidence() -> list[bytes]:
    machine = made.Machine(KEYS[1], indices=(0, 7))
    return [
        made.GoogleMachine(machine).evidence,
        made.GoogleMachine(machine, quotes=(11,)).evidence,
    ]


@cache
def tpm_evidence() -> list[bytes]:
    return [MACHINE.evidence(), made.Machine(indices=(7,)).evidence()]


@cache
def signatures() -> list[bytes]:
    return [key.sign(b"message") for key in KEYS]


@cache
def certifications() -> list[bytes]:
    return [made.certification(DEVICE, KEYS[0])]


@cache
def hcl_reports() -> list[bytes]:
    return [made.AzureMachine().hcl_report]


@cache
def messages() -> list[bytes]:
    return [made.GoogleMachine(quotes=(11,)).quote(11), made.number(1, 2**64 - 1)]


def read_registers(data: bytes) -> None:
    decode_registers(canonical_json.decode(data))


def registers() -> list[bytes]:
    banks = {bank: {"7": values[7].hex()} for bank, values in MACHINE.registers.items()}
    return [canonical_json.encode(banks), b"{}"]


TARGETS = (
    Target(
        "tpm-quote",
        attest.parse_quote,
        REFUSED,
        lambda: [MACHINE.message],
        (f"{TPM}.attest:parse_quote",),
    ),
    Target(
        "tpm-certification",
        attest.parse_certification,
        REFUSED,
        lambda: [made.certification_of(KEYS[0].name)],
        (f"{TPM}.attest:parse_certification",),
    ),
    Target(
        "tpm-selection",
        lambda data: attest.parse_selection(Reader(data, "selection")),
        MALFORMED,
        selections,
        (f"{TPM}.attest:parse_selection",),
    ),
    Target(
        "tpm-public",
        keys.parse_public,
        REFUSED,
        lambda: [key.public for key in KEYS],
        (f"{TPM}.keys:parse_public",),
    ),
    Target(
        "tpm-signature",
        keys.parse_signature,
        REFUSED,
        signatures,
        (f"{TPM}.keys:parse_signature",),
    ),
    Target(
        "tpm-certified",
        provenance.parse_certified,
        REFUSED,
        certifications,
        (f"{TPM}.provenance:parse_certified",),
    ),
    Target(
        "tpm-evidence",
        TpmEvidence.decode,
        MALFORMED,
        tpm_evidence,
        (f"{TPM}.evidence:TpmEvidence.decode",),
        TpmEvidence.encode,
    ),
    Target(
        "tpm-registers",
        read_registers,
        (*MALFORMED, Malformed),
        registers,
        (f"{TPM}.evidence:decode_registers",),
    ),
    Target("event-log", read_log, MALFORMED, lambda: LOGS, (f"{TPM}.events:parse",)),
    Target(
        "uefi-variable",
        parse_variable,
        MALFORMED,
        lambda: [made.variable("SecureBoot", b"\x01")],
        (f"{TPM}.secure_boot:parse_variable",),
    ),
    Target(
        "azure-evidence",
        AzureEvidence.decode,
        MALFORMED,
        azure_evidence,
        (f"{TPM}.azure_evidence:AzureEvidence.decode",),
    ),
    Target(
        "hcl-report",
        HclReport.parse,
        MALFORMED,
        hcl_reports,
        (f"{TPM}.hcl:HclReport.parse",),
    ),
    Target(
        "hcl-runtime-data",
        RuntimeData.parse,
        MALFORMED,
        lambda: [made.AzureMachine().runtime_data],
        (f"{TPM}.hcl:RuntimeData.parse",),
    ),
    Target(
        "google-evidence",
        GceEvidence.parse,
        MALFORMED,
        google_evidence,
        (f"{TPM}.gce:GceEvidence.parse",),
    ),
    Target(
        "protobuf",
        protobuf.parse_message,
        MALFORMED,
        messages,
        (f"{TPM}.protobuf:parse_message",),
    ),
    Target(
        "google-instance",
        instance.Instance.parse,
        MALFORMED,
        lambda: [made.instance_extension()[0].value, LONG],
        (f"{TPM}.instance:Instance.parse",),
    ),
)
