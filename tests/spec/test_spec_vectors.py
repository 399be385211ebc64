"""The page docs/spec/evidence.md and its vectors: computed anew, and by the page's formulas alone.

What is compared with the vectors here uses hashlib, cbor2 and json only: a second reading of the
page. `tests/interop/test_receipt.py` has a third, in another language.
"""

import base64
import hashlib
import json
import re

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.bundle import Bundle
from attestation.errors import MalformedEvidence
from engine import digest as engine_digest
from tests.spec import make
from wire import canonical_json, merkle, receipt
from wire.errors import WireError
from wire.key_document import KeyDocument

PAGE = make.FOLDER.parent / "evidence.md"


def vectors(name):
    return json.loads((make.FOLDER / f"{name}.json").read_text())


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unhex(text):
    return bytes.fromhex(text)


@pytest.mark.parametrize("name", make.FILES)
def test_the_files_are_what_the_script_makes(name):
    assert (make.FOLDER / f"{name}.json").read_text() == make.text(name), (
        "run `python -m tests.spec.make`"
    )


def test_there_are_no_other_files():
    assert {path.stem for path in make.FOLDER.iterdir()} == set(make.FILES)


def test_the_page_shows_the_computed_bytes_and_no_others():
    blocks = re.findall(r"```worked\n(.*?)```", PAGE.read_text(), re.DOTALL)
    shown = dict(line.split(" = ") for block in blocks for line in block.splitlines())
    assert shown == make.worked()
    assert sum(len(block.splitlines()) for block in blocks) == len(shown)


def test_the_page_names_every_member_and_claim():
    text = PAGE.read_text()
    for name in vectors("key_document")["members"]:
        assert f"`{name}`" in text
    _, _, claims, _ = cbor2.loads(unhex(vectors("receipt")["cases"][0]["receipt"])).value
    for key in cbor2.loads(claims):
        assert f"| {key} |" in text


def test_the_key_document():
    found = vectors("key_document")
    encoded = unhex(found["encoded"])
    members = {
        name: [unhex(each) for each in value]
        if isinstance(value, list)
        else unhex(value)
        if name in {"receipt_key", "model_digest", "policy_digest"}
        else value
        for name, value in found["members"].items()
    }
    assert cbor2.dumps({"version": 1, **members}, canonical=True) == encoded
    assert h(encoded).hex() == found["digest"]
    assert KeyDocument.decode(encoded).node == found["digest"]
    for refused in found["refused"].values():
        with pytest.raises(WireError):
            KeyDocument.decode(unhex(refused))


def test_report_data_and_gpu_nonces():
    for case in vectors("report_data")["cases"]:
        digest, nonce = unhex(case["key_document_digest"]), unhex(case["nonce"])
        reports = b"".join(map(unhex, case["gpu_reports"]))
        data = h(b"sottovoce report v1", digest, h(reports)) + nonce
        assert data.hex() == case["report_data"]
        assert h(data).hex() == case["extra_data"]
        for index, found in enumerate(case["gpu_nonces"]):
            label = b"sottovoce gpu nonce v1"
            assert h(label, index.to_bytes(4), digest, nonce).hex() == found


def test_measurements():
    tdx, snp, *tpms = vectors("measurements")["cases"]
    names = ("mr_td", "rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3")
    names += ("mr_config_id", "mr_owner", "mr_owner_config")
    registers = b"".join(unhex(tdx[name]) for name in names)
    assert h(b"sottovoce tdx measurement v1", registers).hex() == tdx["measurement"]
    assert snp["measurement"] == snp["launch_measurement"]
    for case in tpms:
        platform, hardware = case["platform"].encode(), unhex(case["hardware"])
        values = {int(index): unhex(value) for index, value in case["registers"].items()}
        assert list(values) == [0, 2, 4, 7, 8, 9, 11, 12, 13, 14]
        parts = [bytes([len(part)]) + part for part in (platform, hardware)]
        parts += [bytes([index]) + value for index, value in values.items()]
        assert h(b"sottovoce tpm measurement v1", *parts).hex() == case["measurement"]


def test_the_model_digest():
    found = vectors("model_digest")
    leaves = [leaf.encode() for leaf in found["leaves"]]
    assert leaves == sorted(leaves)
    hashes = [h(b"\0", leaf) for leaf in leaves]
    assert [each.hex() for each in hashes] == found["leaf_hashes"]
    # Five leaves: the first four are one perfect tree.
    first, second = h(b"\1", hashes[0], hashes[1]), h(b"\1", hashes[2], hashes[3])
    assert h(b"\1", h(b"\1", first, second), hashes[4]).hex() == found["model_digest"]


def test_an_engine_makes_such_leaves_of_a_folder(tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    header = len(header).to_bytes(8, "little") + header
    (tmp_path / "model.safetensors").write_bytes(header + b"8" * 8)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / ".hidden").write_text("")
    config = engine_digest.EngineConfig(tmp_path)
    leaves = [
        ["file", "config.json", h(b"{}").hex()],
        ["header", "model.safetensors", h(header).hex()],
        ["settings", {"adapters": [], "quantisation": "none", "thresholds": {}}],
        ["tensor", "w", "F32", [2], h(b"8" * 8).hex()],
    ]
    hashes = [merkle.leaf_hash(canonical_json.encode(leaf)) for leaf in leaves]
    assert engine_digest.model_digest(config) == merkle.root(hashes)


def test_the_bundle():
    found = vectors("bundle")
    members = json.loads(found["encoded"])
    content = {
        label: base64.urlsafe_b64decode(record[1] + "=" * (-len(record[1]) % 4))
        for label, record in members.items()
        if label != "__cmwc_t"
    }
    assert members["__cmwc_t"] == "tag:sottovoce.invalid,2026:node-bundle-v1"
    assert content["key-document"].hex() == found["key_document"]
    assert content["engine-policy"].decode() == found["engine_policy"]
    assert h(content["engine-policy"]).hex() == found["engine_policy_digest"]
    assert content["collateral"].decode() == found["collateral"]
    assert [content[f"gpu.{i}"].hex() for i in range(2)] == found["gpu_reports"]
    assert members["quote"][0] == "application/vnd.sottovoce.quote." + found["platform"]
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == found["encoded"]
    assert Bundle.decode(text.encode()).encode() == text.encode()
    for refused in found["refused"].values():
        assert refused != text
        with pytest.raises(MalformedEvidence):
            Bundle.decode(refused.encode())


def test_receipts():
    found = vectors("receipt")
    key = Ed25519PublicKey.from_public_bytes(unhex(found["public_key"]))
    for case in found["cases"]:
        path, body = case["path"].encode(), case["body"].encode()
        request = h(unhex(case["request_salt"]), path, b"\0", body)
        payloads = [payload.encode() for payload in case["payloads"]]
        framed = b"".join(len(payload).to_bytes(4) + payload for payload in payloads)
        response = h(unhex(case["response_salt"]), framed)
        stated = case["claims"]
        assert (stated["request_hash"], stated["response_hash"]) == (request.hex(), response.hex())
        protected, unprotected, claims, signature = cbor2.loads(unhex(case["receipt"])).value
        assert (protected, unprotected) == (bytes.fromhex("a10127"), {})
        key.verify(signature, cbor2.dumps(["Signature1", protected, b"", claims]))
        assert cbor2.loads(claims) == claims_of(stated)
        assert (
            make.plain(make.asdict(receipt.verify(unhex(case["receipt"]), key.public_bytes_raw())))
            == stated
        )


def claims_of(stated):
    verification, transfers = stated["verification"], stated["transfers"]
    return {
        6: stated["issued_at"],
        8: {3: unhex(stated["key_document"])},
        10: unhex(stated["request_hash"]),
        265: "tag:sottovoce.invalid,2026:receipt-v1",
        -65537: unhex(stated["response_hash"]),
        -65538: unhex(stated["model_digest"]),
        -65539: [stated["prompt_tokens"], stated["completion_tokens"]],
        -65540: [verification["mode"], verification["checks"], unhex(verification["decisions"])],
        -65541: [transfers[name] for name in ("mode", "sent", "hits", "misses")],
    }


@pytest.mark.parametrize("why", vectors("receipt")["refused"])
def test_a_receipt_that_must_be_refused(why):
    found = vectors("receipt")
    with pytest.raises(WireError):
        receipt.verify(unhex(found["refused"][why]), unhex(found["public_key"]))
