from dataclasses import replace

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.nvidia.claims import Match
from attestation.verifier.nvidia.compare import VIDEO_DECODER, compare
from attestation.verifier.nvidia.manifest import Golden
from attestation.verifier.nvidia.rim import Rim
from attestation.verifier.nvidia.verify import verify
from tests.support.evidence.nvidia import (
    DRIVER,
    DRIVER_INDEXES,
    MEASUREMENTS,
    NOW,
    VBIOS,
    VBIOS_INDEXES,
    Report,
    attestation_key,
    golden,
    pem,
    roots,
)

LEAF = attestation_key()
CLAIMS = verify(Report().encode(LEAF.key), pem(LEAF), roots=roots(), at=NOW)
OTHER = b"\x99" * 48


def rim(version, measurements):
    frozen = {index: frozenset(values) for index, values in measurements.items()}
    return Rim(Golden(version, "", frozen), ())


DRIVER_RIM = rim(DRIVER, golden(DRIVER_INDEXES))
VBIOS_RIM = rim(VBIOS, golden(VBIOS_INDEXES))


def code(claims=CLAIMS, driver=DRIVER_RIM, vbios=VBIOS_RIM):
    with pytest.raises(Refused) as caught:
        compare(claims, driver, vbios)
    return caught.value.code


def test_measurements_that_are_all_golden_match():
    indexes = frozenset({*DRIVER_INDEXES, *VBIOS_INDEXES})
    assert compare(CLAIMS, DRIVER_RIM, VBIOS_RIM) == Match(indexes, mode_measured=True)


def test_one_alternative_is_enough():
    several = rim(DRIVER, {20: [OTHER, MEASUREMENTS[21]]})
    assert 20 in compare(CLAIMS, several, VBIOS_RIM).indexes


@pytest.mark.parametrize("index", [20, VIDEO_DECODER, 40])
def test_a_measurement_of_the_driver_that_is_not_golden(index):
    measured = {**CLAIMS.measurements, index + 1: OTHER}
    assert code(replace(CLAIMS, measurements=measured)) == Code.GPU_MEASUREMENT_MISMATCH


@pytest.mark.parametrize("index", VBIOS_INDEXES)
def test_a_measurement_of_the_vbios_that_is_not_golden(index):
    measured = {**CLAIMS.measurements, index + 1: OTHER}
    assert code(replace(CLAIMS, measurements=measured)) == Code.GPU_MEASUREMENT_MISMATCH


def test_a_measurement_that_the_report_leaves_out():
    measured = {i: value for i, value in CLAIMS.measurements.items() if i != 21}
    assert code(replace(CLAIMS, measurements=measured)) == Code.GPU_MEASUREMENT_MISMATCH


def test_a_measurement_that_is_golden_at_its_neighbour():
    assert code(vbios=rim(VBIOS, {1: [MEASUREMENTS[1]]})) == Code.GPU_MEASUREMENT_MISMATCH


def test_the_video_decoder_is_left_out_only_when_it_is_off():
    measured = {**CLAIMS.measurements, VIDEO_DECODER + 1: OTHER}
    off = replace(CLAIMS, measurements=measured, nvdec0_disabled=True)
    assert VIDEO_DECODER not in compare(off, DRIVER_RIM, VBIOS_RIM).indexes
    assert compare(off, rim(DRIVER, golden([20])), VBIOS_RIM).mode_measured
    assert code(replace(off, nvdec0_disabled=False)) == Code.GPU_MEASUREMENT_MISMATCH


def test_a_manifest_of_another_version():
    assert code(driver=rim("550.90.08", golden([20]))) == Code.GPU_DRIVER_RIM_MISMATCH
    assert code(vbios=rim("96.00.9F.00.02", golden([1]))) == Code.GPU_VBIOS_RIM_MISMATCH
    assert code(replace(CLAIMS, driver_version="")) == Code.GPU_DRIVER_RIM_MISMATCH
    assert code(replace(CLAIMS, vbios_version="")) == Code.GPU_VBIOS_RIM_MISMATCH
    assert code(driver=VBIOS_RIM, vbios=DRIVER_RIM) == Code.GPU_DRIVER_RIM_MISMATCH


def test_a_version_is_the_same_in_either_case():
    assert compare(CLAIMS, DRIVER_RIM, rim(VBIOS.lower(), golden(VBIOS_INDEXES))).mode_measured


def test_two_manifests_that_state_the_same_measurement():
    assert code(vbios=rim(VBIOS, golden([9, 20]))) == Code.GPU_RIM_CONFLICT


def test_the_mode_is_shown_by_the_measurement_that_covers_it_and_by_nothing_else():
    without = rim(VBIOS, golden([1, 2, 11]))
    assert not compare(CLAIMS, DRIVER_RIM, without).mode_measured
    blackwell = replace(CLAIMS, architecture="blackwell")
    assert not compare(blackwell, DRIVER_RIM, VBIOS_RIM).mode_measured
