"""Real evidence, where the folder with it lies beside the repository. The index is the judge."""

import json
from pathlib import Path

import pytest

from attestation.errors import Code
from attestation.verifier.intel.platform import check_event_log
from attestation.verifier.intel.policy import TdxPolicy
from attestation.verifier.intel.quote import DcapQuote
from attestation.verifier.intel.verify import verify
from attestation.verifier.roots import INTEL

FOLDER = Path(__file__).parents[5] / "shared" / "vectors" / "attestation"
INDEX = FOLDER / "index.json"
MISSING = "the evidence folder is not beside the repository"
KIND = "intel-dcap-quote"
NAMES = ("tdx_v4_phala", "sgx_v3_phala", "tdx_v4_gce_cos113")
YEARS_LATER = 1_900_000_000
DAY = 24 * 3600


@pytest.fixture(scope="module")
def vectors():
    if not INDEX.exists():
        pytest.skip(MISSING)
    rows = json.loads(INDEX.read_text())["vectors"]
    return {row["id"]: row for row in rows if row["kind"] == KIND}


def files(row):
    return [(FOLDER / row[name]).read_bytes() for name in ("file", "collateral")]


def test_no_vector_is_left_out(vectors):
    assert set(vectors) == {*NAMES, "tdx_v5_alibaba_service_td", "tdx_v4_spr_prod"}


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_quote_states_what_the_index_says(vectors, name):
    row = vectors[name]
    claims = verify(*files(row), roots=INTEL, at=row["valid_at"])
    found = claims.to_json()
    assert {name: found[name] for name in row["expected_fields"]} == row["expected_fields"]
    assert found["status"] == row["expected_status"]
    assert found["advisory_ids"] == row["advisory_ids"]


@pytest.mark.parametrize("name", [*NAMES, "tdx_v5_alibaba_service_td"])
def test_real_evidence_expires(vectors, refused, name):
    code = refused(verify, *files(vectors[name]), roots=INTEL, at=YEARS_LATER)
    assert code is Code.TDX_COLLATERAL_EXPIRED


@pytest.mark.parametrize("name", [*NAMES, "tdx_v5_alibaba_service_td"])
def test_real_evidence_is_of_no_other_root(vectors, refused, name):
    row = vectors[name]
    code = refused(verify, *files(row), roots=frozenset({bytes(32)}), at=row["valid_at"])
    assert code is Code.TDX_ROOT_UNKNOWN


def test_a_trust_domain_with_a_service_td_is_refused(vectors, refused):
    row = vectors["tdx_v5_alibaba_service_td"]
    code = refused(verify, *files(row), roots=INTEL, at=row["valid_at"])
    assert code is Code.TDX_SERVICE_TD


@pytest.mark.parametrize("name", ["tdx_v5_alibaba_service_td", "tdx_v4_spr_prod"])
def test_what_cannot_be_verified_is_parsed(vectors, name):
    row = vectors[name]
    report = DcapQuote.parse((FOLDER / row["file"]).read_bytes()).report
    expected = {k: v for k, v in row["expected_fields"].items() if hasattr(report, k)}
    assert len(expected) > 10
    assert {k: getattr(report, k).hex() for k in expected} == expected


def test_a_quote_with_bytes_behind_it_is_refused(vectors, refused):
    quote = (FOLDER / vectors["tdx_v4_spr_prod"]["file"]).read_bytes()
    code = refused(verify, quote, b"", roots=INTEL, at=YEARS_LATER)
    assert code is Code.TDX_QUOTE_TRAILING_BYTES


@pytest.mark.parametrize(
    ("name", "age", "code"),
    [
        ("tdx_v4_phala", 0, Code.TDX_COLLATERAL_TOO_OLD),
        ("tdx_v4_gce_cos113", 0, Code.TDX_COLLATERAL_TOO_OLD),
        ("tdx_v4_phala", 365 * DAY, None),
        ("tdx_v4_gce_cos113", 365 * DAY, None),
        ("sgx_v3_phala", 365 * DAY, Code.TDX_NOT_A_TD),
    ],
)
def test_the_policy_decides_apart_from_the_signatures(vectors, refused, name, age, code):
    row = vectors[name]
    policy = TdxPolicy(max_collateral_age_s=age)
    claims = verify(*files(row), roots=INTEL, at=row["valid_at"])
    if code is None:
        assert policy.check(claims, at=row["valid_at"])
    else:
        assert refused(policy.check, claims, at=row["valid_at"]) is code


def test_a_real_event_log_leads_to_its_quote(vectors, refused):
    row = vectors["tdx_v4_gce_cos113"]
    log = (FOLDER / row["event_log"]).read_bytes()
    check_event_log(log, DcapQuote.parse(files(row)[0]).report)
    other = DcapQuote.parse(files(vectors["tdx_v4_phala"])[0]).report
    assert refused(check_event_log, log, other) is Code.TDX_EVENT_LOG_MISMATCH
