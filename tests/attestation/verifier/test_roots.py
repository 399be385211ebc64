"""The pinned fingerprints: of every kind of evidence, and those of certificates that come along."""

from pathlib import Path

import pytest

from attestation.verifier import certificates
from attestation.verifier.node import GPU_ROOTS
from attestation.verifier.platforms import PLATFORMS
from attestation.verifier.roots import AMD, ARK_GENOA, ARK_MILAN, INTEL, PINNED

ISSUERS = Path(__file__).parents[3] / "sottovoce" / "verify" / "issuers"


def test_every_kind_but_simulated_has_its_roots():
    assert set(PINNED) == set(PLATFORMS) - {"simulated"} | {GPU_ROOTS}
    assert all(len(root) == 32 for roots in PINNED.values() for root in roots)
    assert PINNED["azure-vtpm"] == INTEL | AMD


def test_no_maker_of_tpms_is_trusted_with_a_machine_s_attestation_key():
    assert PINNED["tpm"] == frozenset()


@pytest.mark.parametrize(("name", "pinned"), [("milan", ARK_MILAN), ("genoa", ARK_GENOA)])
def test_amd_s_roots_are_those_of_the_chains_that_come_along(name, pinned):
    chain = certificates.load((ISSUERS / f"{name}.pem").read_bytes(), at_most=3)
    assert certificates.fingerprint(chain[-1]).hex() == pinned
