"""Make docs/spec/vectors/*.json: `python -m tests.spec.make`. The same bytes on every machine.

Each file has a `note`, which says what the numbers are, and cases of inputs and outputs, bytes as
lower-case hex. Keys and digests are made from names, so that anybody can make them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.gpu_nonce import gpu_nonce
from attestation.report_data import report_data
from attestation.simulated_quote import SimulatedQuote, join, to_be_signed
from attestation.verifier.intel.platform import measure as measure_tdx
from attestation.verifier.tpm.platform import measure as measure_tpm
from attestation.verifier.tpm.policy import MEASURED
from wire import canonical_json, cbor, merkle, ohttp, receipt
from wire.hpke import Aead, Kdf, Kem, PrivateKey, Suite, setup_recipient
from wire.key_config import KeyConfig
from wire.key_document import KeyDocument
from wire.receipt import Receipt, Transfers, Verification

FOLDER = Path(__file__).parents[2] / "docs" / "spec" / "vectors"
NOW = 1_800_000_000
NONCE = hashlib.sha256(b"nonce").digest()
ZEROS = bytes(32)

Json = dict[str, Any]


def seed(name: str) -> bytes:
    """32 bytes that everybody can make: SHA-256 of a name."""
    return hashlib.sha256(name.encode()).digest()


RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(seed("receipt key"))
PLATFORM_KEY = Ed25519PrivateKey.from_private_bytes(seed("platform root"))
X25519_KEY = PrivateKey.generate(Kem.X25519, seed("x25519 key"))
XWING_KEY = PrivateKey.generate(Kem.XWING, seed("xwing key"))
ALGORITHMS = ((Kdf.HKDF_SHA256, Aead.AES_128_GCM), (Kdf.HKDF_SHA256, Aead.CHACHA20_POLY1305))
ENGINE_POLICY = canonical_json.encode(
    {
        "version": 1,
        "verification": "audit",
        "transfers": "sealed",
        "prefix_cache": "request",
        "device": "cuda",
        "optimisations": {"paging": {"state": "on", "form": "blocks"}},
    }
)
LEAVES = tuple(
    canonical_json.encode(leaf).decode()
    for leaf in (
        ["file", "config.json", seed("config.json").hex()],
        ["header", "model.safetensors", seed("header").hex()],
        ["settings", {"adapters": [], "quantisation": "none", "thresholds": {}}],
        ["tensor", "a.weight", "BF16", [2, 3], seed("a.weight").hex()],
        ["tensor", "b.weight", "F32", [], seed("b.weight").hex()],
    )
)
MODEL_DIGEST = merkle.root([merkle.leaf_hash(leaf.encode()) for leaf in LEAVES])
DOCUMENT = KeyDocument(
    key_configs=(
        KeyConfig(1, Kem.XWING, XWING_KEY.public_bytes, ALGORITHMS),
        KeyConfig(2, Kem.X25519, X25519_KEY.public_bytes, ALGORITHMS),
    ),
    receipt_key=RECEIPT_KEY.public_key().public_bytes_raw(),
    tls_key=None,
    model="example",
    model_digest=MODEL_DIGEST,
    policy_digest=hashlib.sha256(ENGINE_POLICY).digest(),
    device="cuda",
    gpu_count=2,
    capacity=4,
    token_budget=4096,
    not_before=NOW,
    not_after=NOW + 4800,
)
CHAINS = {"nvidia.0-chain": b"chain 0", "nvidia.1-chain": b"chain 1"}
GPU_REPORTS = (b"report of GPU 0", b"report of GPU 1")


def key_document() -> Json:
    members = {
        name: getattr(DOCUMENT, name)
        for name in DOCUMENT.__dataclass_fields__
        if name != "key_configs"
    }
    members["key_configs"] = [config.encode() for config in DOCUMENT.key_configs]
    encoded = DOCUMENT.encode()
    longer = cbor2.dumps(cbor2.loads(encoded) | {"more": 1}, canonical=True)
    return {
        "note": "A key document: its members, its one encoding, and what is not one.",
        "members": members,
        "encoded": encoded,
        "digest": DOCUMENT.digest,
        "refused": {
            "a trailing byte": encoded + b"\0",
            "an unknown member": longer,
            "members in another order": cbor2.dumps(
                dict(reversed(cbor2.loads(encoded).items())), canonical=False
            ),
            "valid for more than six hours": cbor2.dumps(
                cbor2.loads(encoded) | {"not_after": NOW + 6 * 3600 + 1}, canonical=True
            ),
            "a boolean for a number": cbor2.dumps(
                cbor2.loads(encoded) | {"gpu_count": True}, canonical=True
            ),
            "a truncated one": encoded[:-1],
        },
    }


def report_data_cases() -> Json:
    cases = []
    for reports in ((), GPU_REPORTS):
        for nonce in (ZEROS, NONCE):
            data = report_data(DOCUMENT.digest, reports, nonce)
            cases.append(
                {
                    "key_document_digest": DOCUMENT.digest,
                    "gpu_reports": list(reports),
                    "nonce": nonce,
                    "gpu_nonces": [
                        gpu_nonce(DOCUMENT.digest, index, nonce) for index in range(len(reports))
                    ],
                    "report_data": data,
                    "extra_data": hashlib.sha256(data).digest(),
                }
            )
    return {
        "note": "What a quote binds, and by which nonces GPU reports belong to it. The reports "
        "stand for real ones: their content does not matter here. extra_data is a TPM's.",
        "cases": cases,
    }


def measurements() -> Json:
    names = ("mr_td", "rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3")
    names += ("mr_config_id", "mr_owner", "mr_owner_config")
    fields = {name: hashlib.sha384(name.encode()).digest() for name in names}
    registers = {index: seed(f"PCR {index}") for index in range(24)}
    hardware = hashlib.sha384(b"launched").digest()
    cases = [
        {"platform": "tdx", **fields, "measurement": measure_tdx(SimpleNamespace(**fields))},
        {"platform": "snp", "launch_measurement": hardware, "measurement": hardware},
    ]
    for platform, launched in (("azure-vtpm", hardware), ("gce-vtpm", b""), ("tpm", b"")):
        cases.append(
            {
                "platform": platform,
                "hardware": launched,
                "registers": {str(index): registers[index] for index in MEASURED},
                "measurement": measure_tpm(platform, launched, {"sha256": registers}),
            }
        )
    return {"note": "What release leaves state of each platform.", "cases": cases}


def model_digest() -> Json:
    return {
        "note": "A Merkle tree over the leaves of a model (UTF-8), sorted as bytes.",
        "leaves": list(LEAVES),
        "leaf_hashes": [merkle.leaf_hash(leaf.encode()) for leaf in LEAVES],
        "model_digest": MODEL_DIGEST,
    }


def bundle() -> Json:
    claims = SimulatedQuote(
        seed("measurement"),
        report_data(DOCUMENT.digest, GPU_REPORTS, NONCE),
        NOW,
        PLATFORM_KEY.public_key().public_bytes_raw(),
    ).encode()
    made = Bundle(
        key_document=DOCUMENT.encode(),
        platform="simulated",
        quote=join(claims, PLATFORM_KEY.sign(to_be_signed(claims))),
        engine_policy=ENGINE_POLICY,
        collateral=Collateral(
            {"nvidia.0-chain": b"chain 0", "nvidia.1-chain": b"chain 1"}
        ).encode(),
        gpu_reports=GPU_REPORTS,
    )
    text = made.encode().decode()
    return {
        "note": "A bundle as its text, and its parts. It is of the platform `simulated`.",
        "key_document": made.key_document,
        "platform": made.platform,
        "quote": made.quote,
        "engine_policy": ENGINE_POLICY.decode(),
        "engine_policy_digest": hashlib.sha256(ENGINE_POLICY).digest(),
        "collateral": made.collateral.decode(),
        "gpu_reports": list(made.gpu_reports),
        "event_log": made.event_log,
        "encoded": text,
        "digest": hashlib.sha256(text.encode()).digest(),
        "refused": {
            "white space": text.replace(",", ", ", 1),
            "an unknown member": text[:-1] + ',"z":["application/json","e30",1]}',
            "padding in base64url": text.replace('",4]', '=",4]', 1),
            "another indicator": text.replace('",1]', '",2]', 1),
            "a gap in the GPU reports": text.replace('"gpu.1"', '"gpu.2"'),
        },
    }


def salts() -> Json:
    suite = Suite(Kem.X25519, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    enc = PrivateKey.generate(Kem.X25519, seed("ephemeral key")).public_bytes
    header = ohttp.Header(2, suite.kem, suite.kdf, suite.aead)
    info = ohttp.request_info(header, chunked=True)
    context = setup_recipient(suite, X25519_KEY, enc, info)
    return {
        "note": "The salts of a request: exports of its HPKE context (base mode, chunked request).",
        "private_key_seed": seed("x25519 key"),
        "private_key_note": "DeriveKeyPair (RFC 9180, section 7.1.3) of this seed",
        "public_key": X25519_KEY.public_bytes,
        "enc": enc,
        "info": info,
        "request_salt_label": ohttp.REQUEST_SALT_LABEL.decode(),
        "response_salt_label": ohttp.RESPONSE_SALT_LABEL.decode(),
        "request_salt": context.export(ohttp.REQUEST_SALT_LABEL, ohttp.SALT_LENGTH),
        "response_salt": context.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH),
    }


PATH, BODY = "/v1/chat/completions", '{"messages":[],"model":"example"}'
WHOLE = ('{"id":"x","usage":{"prompt_tokens":3},"attestation":null}',)
STREAM = (
    '{"id":"x","choices":[{"index":0,"delta":{"content":"sotto"}}]}',
    '{"id":"x","choices":[],"usage":{"prompt_tokens":3},"attestation":null}',
    "[DONE]",
)


def receipts() -> Json:
    exported = salts()
    request_salt, response_salt = exported["request_salt"], exported["response_salt"]
    cases = []
    for payloads in (WHOLE, STREAM):
        response = receipt.ResponseHash(response_salt)
        for payload in payloads:
            response.add(payload.encode())
        stated = Receipt(
            key_document=DOCUMENT.digest,
            request_hash=receipt.request_hash(request_salt, PATH.encode(), BODY.encode()),
            response_hash=response.digest(),
            model_digest=MODEL_DIGEST,
            prompt_tokens=3,
            completion_tokens=2,
            verification=Verification("audit", 2**40, seed("decisions")),
            transfers=Transfers("sealed", 23, 20, 3),
            issued_at=NOW,
        )
        cases.append(
            {
                "request_salt": request_salt,
                "response_salt": response_salt,
                "path": PATH,
                "body": BODY,
                "payloads": list(payloads),
                "claims": asdict(stated),
                "receipt": receipt.sign(stated, RECEIPT_KEY),
            }
        )
    signed = cases[0]["receipt"]
    return {
        "note": "Receipts over an answer in one body and over a stream. Payloads as they are "
        "hashed: with `null` for the attestation.",
        "key_seed": seed("receipt key"),
        "public_key": RECEIPT_KEY.public_key().public_bytes_raw(),
        "cases": cases,
        "refused": _refused_receipts(stated, signed),
    }


def _refused_receipts(stated: Receipt, signed: bytes) -> Json:
    protected, _, claims, signature = cbor2.loads(signed).value
    members = cbor2.loads(claims)

    def resigned(
        payload: bytes = claims, header: bytes = protected, unprotected: Any = None
    ) -> bytes:
        to_sign = cbor.encode(["Signature1", header, b"", payload])
        parts = [header, unprotected or {}, payload, RECEIPT_KEY.sign(to_sign)]
        return cbor.encode(cbor2.CBORTag(18, parts))

    other = Ed25519PrivateKey.from_private_bytes(seed("another key"))
    return {
        "a trailing byte": signed + b"\0",
        "untagged": cbor.encode([protected, {}, claims, signature]),
        "another tag": cbor.encode(cbor2.CBORTag(17, [protected, {}, claims, signature])),
        "an unprotected header": resigned(unprotected={4: b"key"}),
        "another algorithm": resigned(header=cbor.encode({1: -7})),
        "an unknown claim": resigned(cbor.encode(members | {-65542: 1})),
        "a claim left out": resigned(cbor.encode({k: v for k, v in members.items() if k != 6})),
        "another profile": resigned(cbor.encode(members | {265: "tag:other.invalid,2026:x"})),
        "an unknown mode": resigned(cbor.encode(members | {-65540: ["some", 1, ZEROS]})),
        "claims in another order": resigned(
            cbor2.dumps(dict(reversed(members.items())), canonical=False)
        ),
        "signed by another key": receipt.sign(stated, other),
        "one bit of the claims flipped": signed.replace(stated.model_digest, _flip(MODEL_DIGEST)),
    }


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


FILES: dict[str, Callable[[], Json]] = {
    "key_document": key_document,
    "report_data": report_data_cases,
    "measurements": measurements,
    "model_digest": model_digest,
    "bundle": bundle,
    "salts": salts,
    "receipt": receipts,
}


def plain(value: Any) -> Any:
    """The value as JSON: bytes become hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def text(name: str) -> str:
    """What stands in a file of vectors."""
    return json.dumps(plain(FILES[name]()), indent=1, ensure_ascii=False) + "\n"


def worked() -> dict[str, str]:
    """The worked bytes of docs/spec/evidence.md, by the names they have there."""
    data = report_data(DOCUMENT.digest, GPU_REPORTS, NONCE)
    case = plain(receipts()["cases"][1])
    tdx, _, azure, *_ = plain(measurements()["cases"])
    exported = plain(salts())
    return {
        "key document digest": DOCUMENT.digest.hex(),
        "engine policy digest": hashlib.sha256(ENGINE_POLICY).hexdigest(),
        "model digest": MODEL_DIGEST.hex(),
        "nonce": NONCE.hex(),
        "GPU nonce 0": gpu_nonce(DOCUMENT.digest, 0, NONCE).hex(),
        "GPU nonce 1": gpu_nonce(DOCUMENT.digest, 1, NONCE).hex(),
        "report data": data.hex(),
        "extraData": hashlib.sha256(data).hexdigest(),
        "tdx measurement": tdx["measurement"],
        "azure-vtpm measurement": azure["measurement"],
        "request salt": exported["request_salt"],
        "response salt": exported["response_salt"],
        "request hash": case["claims"]["request_hash"],
        "response hash": case["claims"]["response_hash"],
        "receipt": case["receipt"],
    }


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        (FOLDER / f"{name}.json").write_text(text(name))


if __name__ == "__main__":
    main()
