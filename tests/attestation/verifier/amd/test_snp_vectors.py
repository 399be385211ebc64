"""Reports of real machines, published by others: `../shared/vectors/attestation`, where present."""

import json
import random
import warnings
from pathlib import Path

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.amd import snp
from attestation.verifier.amd.policy import SnpPolicy
from attestation.verifier.roots import PINNED

FOLDER = Path(__file__).parents[5] / "shared" / "vectors" / "attestation"
INDEX = FOLDER / "index.json"
pytestmark = pytest.mark.skipif(not INDEX.is_file(), reason=f"no published evidence at {FOLDER}")
NOW = 1_751_000_000  # June 2025: within the dates of both revocation lists


def vectors():
    if not INDEX.is_file():
        return []
    index = json.loads(INDEX.read_text())
    entries = index if isinstance(index, list) else index["vectors"]
    return [each for each in entries if each["kind"] == "amd-sev-snp-report"]


def verify(vector, report=None):
    line = "genoa" if "genoa" in vector["chain"] else "milan"
    return snp.verify(
        (FOLDER / vector["file"]).read_bytes() if report is None else report,
        [(FOLDER / vector["vcek"]).read_bytes(), (FOLDER / vector["chain"]).read_bytes()],
        (FOLDER / "snp" / f"amd_{line}.crl.pem").read_bytes(),
        roots=PINNED["snp"],
        at=NOW,
    )


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["id"])
def test_each_is_decided_as_its_index_says(vector):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if vector["expect"] == "valid":
            found = verify(vector).to_json()
            expected = vector["expected_fields"]
            assert {name: found[name] for name in expected} == expected
        else:
            with pytest.raises(Refused) as caught:
                verify(vector)
            assert caught.value.code is Code.SNP_CHAIN_BAD


def one(name):
    return next(vector for vector in vectors() if vector["id"] == name)


def test_a_guest_that_the_host_may_debug_is_authentic_and_refused():
    claims = verify(one("snp_v2_milan_google"))
    with pytest.raises(Refused) as caught:
        SnpPolicy().check(claims, at=NOW)
    assert caught.value.code is Code.SNP_DEBUG


@pytest.mark.parametrize("name", ["snp_v2_milan_trustee", "snp_v3_genoa_azure"])
def test_firmware_older_than_amds_bulletins_is_refused_unless_the_policy_says_otherwise(name):
    claims = verify(one(name))
    with pytest.raises(Refused) as caught:
        SnpPolicy().check(claims, at=NOW)
    assert caught.value.code is Code.SNP_REPORTED_TCB_TOO_OLD
    names = ("reported", "committed", "current", "launch")
    none = {f"min_{each}_tcb": {} for each in names}
    SnpPolicy(**none).check(claims, at=NOW)


@pytest.mark.parametrize("name", ["snp_v2_milan_trustee", "snp_v3_genoa_azure"])
@pytest.mark.parametrize("count", [50, pytest.param(10_000, marks=pytest.mark.soak)])
def test_no_flip_of_a_signed_byte_is_accepted(name, count):
    vector, generator = one(name), random.Random(name)
    report = (FOLDER / vector["file"]).read_bytes()
    for _ in range(count):
        data = bytearray(report)
        data[generator.randrange(0x2A0)] ^= generator.randrange(1, 256)
        with pytest.raises(Refused):
            verify(vector, bytes(data))
