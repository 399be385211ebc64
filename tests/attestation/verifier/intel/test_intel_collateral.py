import json

import pytest

from attestation.errors import MalformedEvidence
from attestation.verifier.intel.collateral import MAX_COLLATERAL, DcapCollateral, parse_pck_chain
from tests.support.evidence.intel import DAY, NOW, IntelNode

HONEST = IntelNode()
TEXT = HONEST.collateral()
MEMBERS = json.loads(TEXT)
STATEMENT = json.loads(MEMBERS["tcb_info"])
CHAIN = HONEST.chain("pck", "pck_ca", "root").encode()


def encode(**changes):
    return json.dumps(MEMBERS | changes).encode()


def list_with(old, new):
    """The PCK list with some of its bytes replaced, where they stand first."""
    assert old in bytes.fromhex(MEMBERS["pck_crl"])
    return encode(pck_crl=bytes.fromhex(MEMBERS["pck_crl"]).replace(old, new, 1).hex())


def statement(**changes):
    return encode(tcb_info=json.dumps(STATEMENT | changes))


def test_what_is_in_it_is_found():
    collateral = DcapCollateral.parse(TEXT)
    assert collateral.tcb_info.text == MEMBERS["tcb_info"]
    assert collateral.tcb_info.issued_at == NOW - DAY
    assert collateral.qe_identity.next_update == NOW + 29 * DAY
    assert collateral.pck_chain == ()
    assert len(collateral.pck_crl_signers) == 2


@pytest.mark.parametrize("end", ["", "\0"])
def test_it_may_bring_the_pck_chain(end):
    collateral = DcapCollateral.parse(encode(pck_certificate_chain=CHAIN.decode() + end))
    assert collateral.pck_chain == parse_pck_chain(CHAIN)


def test_no_pck_chain_may_be_said_in_two_ways():
    assert DcapCollateral.parse(encode(pck_certificate_chain=None)) == DcapCollateral.parse(TEXT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        TEXT[:-1],
        TEXT + b"x",
        b"\xef\xbb\xbf" + TEXT,
        b"[" * 100_000,
        TEXT.replace(b"{", b'{"tcb_info": "", ', 1),
        TEXT.replace(b'"pck_crl"', b'"pck_crl_"'),
        encode(another=""),
        encode(pck_crl=7),
        encode(pck_crl=["30"]),
        encode(pck_crl="\u0663\u0663"),
        encode(pck_crl=""),
        encode(pck_crl="3"),
        encode(pck_crl="30 82"),
        encode(pck_crl="3082"),
        encode(root_ca_crl=MEMBERS["root_ca_crl"] + "00"),
        list_with(b"\x02\x01\x01", b"\x02\x01\x07"),  # of another version
        list_with(b"pck_ca", b"pck\xffca"),  # an issuer that is not text
        encode(tcb_info="7"),
        encode(tcb_info="{"),
        encode(tcb_info=MEMBERS["tcb_info"].replace("{", '{"issueDate": 1, ', 1)),
        encode(tcb_info_signature="00" * 63),
        encode(tcb_info_issuer_chain=""),
        encode(tcb_info_issuer_chain=HONEST.chain("root")),
        encode(tcb_info_issuer_chain=HONEST.chain("tcb_signer", "root", "root")),
        encode(tcb_info_issuer_chain=MEMBERS["tcb_info_issuer_chain"].replace("\n", "\r")),
        encode(tcb_info_issuer_chain=MEMBERS["tcb_info_issuer_chain"] + "\r"),
        encode(pck_crl_issuer_chain="-----BEGIN CERTIFICATE-----"),
        encode(pck_certificate_chain=""),
        encode(pck_certificate_chain=CHAIN.decode() + "\0\0"),
        encode(pck_certificate_chain=HONEST.chain("pck", "pck_ca")),
        statement(issueDate=None),
        statement(issueDate=NOW),
        statement(issueDate="2026-13-01T00:00:00Z"),
        statement(issueDate="2026-01-01T00:00:00"),
        statement(issueDate="2026-01-01T00:00:00+00:00"),
        statement(nextUpdate="0000-01-01T00:00:00Z"),
        b'{"a":"' + bytes([0x61]) * MAX_COLLATERAL + b'"}',
    ],
)
def test_anything_else_is_malformed(data):
    with pytest.raises(MalformedEvidence):
        DcapCollateral.parse(data)


def test_lines_may_end_as_on_another_system():
    chain = MEMBERS["tcb_info_issuer_chain"].replace("\n", "\r\n")
    assert DcapCollateral.parse(encode(tcb_info_issuer_chain=chain)) == DcapCollateral.parse(TEXT)
