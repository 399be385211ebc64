"""The decoders of NVIDIA's evidence."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from attestation.errors import MalformedEvidence, Refused
from attestation.verifier.nvidia import firmware, manifest, ocsp, opaque, report, rim, verify
from tests.fuzz.target import Target
from tests.support.evidence import nvidia as made

MALFORMED = (MalformedEvidence,)
MODULE = "attestation.verifier.nvidia"


@cache
def a_report() -> bytes:
    return made.Report().encode()


@cache
def manifests() -> tuple[bytes, ...]:
    return made.manifest(), made.vbios_manifest()


@cache
def responses() -> bytes:
    return made.ocsp_responses(made.attestation_key().issuer)


def opaque_seeds() -> list[bytes]:
    headed = b"NVDAOD" + bytes(2) + b"\x01" + bytes(3) + b"\x03\x00\x87\x00\x01\x00" + b"5"
    return [made.tlvs(made.OPAQUE.items()), headed]


def accepted_by(check: Callable[..., Any], *arguments: Any) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        return check(data, *arguments, roots=made.roots(), at=made.NOW)

    return decode


TARGETS = (
    Target(
        "gpu-report", report.decode, MALFORMED, lambda: [a_report()], (f"{MODULE}.report:decode",)
    ),
    Target("gpu-opaque-data", opaque.decode, MALFORMED, opaque_seeds, (f"{MODULE}.opaque:decode",)),
    Target(
        "gpu-device-id",
        firmware.decode_composite,
        MALFORMED,
        lambda: [made.composite()[0].value],
        (f"{MODULE}.firmware:decode_composite",),
    ),
    Target(
        "gpu-tcb-info",
        firmware.decode_dice,
        MALFORMED,
        lambda: [made.dice()[0].value],
        (f"{MODULE}.firmware:decode_dice",),
    ),
    Target(
        "gpu-report-signed",
        accepted_by(verify.verify, made.pem(made.attestation_key())),
        (Refused,),
        lambda: [a_report()],
        (f"{MODULE}.verify:parse",),
    ),
    Target(
        "gpu-manifest",
        manifest.decode_document,
        (*MALFORMED, Refused),
        lambda: list(manifests()),
        (f"{MODULE}.manifest:decode_document",),
    ),
    Target(
        "gpu-manifest-signed", accepted_by(rim.verify), (Refused,), lambda: list(manifests()), ()
    ),
    Target(
        "gpu-ocsp-responses",
        ocsp.split,
        (Refused,),
        lambda: [responses()],
        (f"{MODULE}.ocsp:split",),
        b"".join,
    ),
    Target(
        "gpu-ocsp-checked",
        lambda data: ocsp.check_all(data, made.attestation_key().issuer.chain, at=made.NOW),
        (Refused,),
        lambda: [responses()],
        (),
    ),
)
