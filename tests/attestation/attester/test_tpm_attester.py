"""Quotes of a TPM 2.0 in software (swtpm), judged by us and by tpm2-tools, each the other's."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.attester import tpm
from attestation.attester.azure import ATTESTATION_KEY, HCL_REPORT, AzureAttester
from attestation.attester.tpm import Quoted, TpmAttester, TpmUnavailable, load_stack, open_device
from attestation.errors import Code, Refused
from attestation.verifier.tpm import azure, quote
from attestation.verifier.tpm.attest import parse_quote
from attestation.verifier.tpm.evidence import TpmEvidence
from attestation.verifier.tpm.keys import parse_public, parse_signature
from tests.support.evidence.tpm import (
    NOW,
    ROOTS,
    SHA256,
    AzureMachine,
    certificate,
    issuer,
    quote_of,
    u,
    web_key,
)

swtpm = pytest.mark.skipif(
    not (shutil.which("swtpm") and shutil.which("tpm2_quote")),
    reason="swtpm and tpm2-tools are not installed",
)
REPORT_DATA = bytes(range(64))
BINDING = hashlib.sha256(REPORT_DATA).digest()
RSA_KEY = "rsa2048:rsassa-sha256:null"
OWNED = "ownerread|ownerwrite|authread|authwrite"


@pytest.fixture(scope="module")
def tcti(tmp_path_factory):
    """A TPM of this module's own, freshly made, ended afterwards."""
    pytest.importorskip("tpm2_pytss", reason="tpm2-pytss (the extra `tpm`) is not installed")
    folder = tmp_path_factory.mktemp("swtpm")
    socket = folder / "tpm"
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"]
    command += ["--server", f"type=unixio,path={socket}", "--flags", "not-need-init,startup-clear"]
    command += ["--ctrl", f"type=unixio,path={socket}.ctrl"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while not socket.is_socket():
            assert process.poll() is None, "swtpm ended"
            assert time.monotonic() < until, "swtpm does not listen"
            time.sleep(0.02)
        yield f"swtpm:path={socket}"
        process.terminate()


def device(tcti):
    return open_device(load_stack(), tcti)


def tool(tcti, name, *arguments):
    """Run one of tpm2-tools against this TPM."""
    environment = {**os.environ, "TPM2TOOLS_TCTI": tcti, "TSS2_LOG": "all+none"}
    run = subprocess.run([name, *arguments], env=environment, capture_output=True, check=False)
    return run.returncode


@contextmanager
def primary(tcti, algorithm="ecc256:ecdsa-sha256:null", attributes=tpm._ATTRIBUTES):
    """A primary key of the TPM's endorsement hierarchy, for as long as the context lasts."""
    stack = load_stack()
    with stack.ESAPI(tcti) as esys:
        public = stack.TPM2B_PUBLIC.parse(algorithm, objectAttributes=attributes)
        sensitive = stack.TPM2B_SENSITIVE_CREATE()
        key = esys.create_primary(sensitive, public, stack.ESYS_TR.ENDORSEMENT)[0]
        yield stack, esys, key
        esys.flush_context(key)


def make_key(tcti, handle, algorithm, **attributes):
    """Make a key, and leave it at a persistent handle."""
    with primary(tcti, algorithm, **attributes) as (stack, esys, key):
        esys.evict_control(stack.ESYS_TR.OWNER, key, handle)


def public_at(tcti, handle):
    with device(tcti) as opened, opened.attestation_key(handle) as key:
        return opened.public(key)


def extend(tcti, index, data):
    stack = load_stack()
    with stack.ESAPI(tcti) as esys:
        esys.pcr_event(stack.ESYS_TR.PCR0 + index, data)


@swtpm
def test_our_quote_verifies(tcti):
    extend(tcti, 4, b"the loader")
    evidence = TpmAttester(tcti).quote(REPORT_DATA)
    claims = quote.verify(evidence, roots=frozenset(), at=NOW)
    assert claims.extra_data == BINDING
    expected = hashlib.sha256(bytes(32) + hashlib.sha256(b"the loader").digest()).digest()
    assert claims.registers["sha256"][4] == expected
    assert claims.registers["sha256"][17] == b"\xff" * 32
    assert len(claims.registers["sha256"]) == 24


@swtpm
def test_the_key_is_the_same_each_time_and_a_ca_can_certify_it(tcti):
    first, second = (
        TpmEvidence.decode(TpmAttester(tcti).quote(data)) for data in (REPORT_DATA, bytes(64))
    )
    assert first.public == second.public
    assert first.attest != second.attest
    key = SimpleNamespace(
        private=SimpleNamespace(public_key=lambda: parse_public(first.public).key)
    )
    chain = certificate(key).pem + issuer().pem + issuer().issuer.pem
    claims = quote.verify(first.encode(), chain=chain, roots=ROOTS, at=NOW)
    assert claims.provenance == "certificate"


@swtpm
def test_another_tpm_s_register_is_refused(tcti):
    honest = TpmEvidence.decode(TpmAttester(tcti).quote(REPORT_DATA))
    values = honest.registers["sha256"] | {0: b"\x01" * 32}
    forged = TpmEvidence(honest.attest, honest.signature, honest.public, {"sha256": values})
    with pytest.raises(Refused) as caught:
        quote.verify(forged.encode(), roots=frozenset(), at=NOW)
    assert caught.value.code is Code.TPM_PCR_DIGEST_MISMATCH


@swtpm
@pytest.mark.parametrize(
    ("handle", "algorithm"),
    [
        (0x81010010, "ecc256:ecdsa-sha256:null"),
        (0x81010011, RSA_KEY),
        (0x81010012, "rsa2048:rsapss-sha256:null"),
        (0x81010013, "ecc384:ecdsa-sha384:null"),
    ],
)
def test_tpm2_checkquote_agrees_with_us(tcti, tmp_path, handle, algorithm):
    make_key(tcti, handle, algorithm)
    tcti_quote, signature, public = (tmp_path / name for name in ("quote", "signature", "public"))
    made = tool(
        tcti,
        "tpm2_quote",
        *("-c", f"{handle:#x}", "-l", "sha256:0,4,7", "-q", BINDING.hex()),
        *("-m", str(tcti_quote), "-s", str(signature), "-g", digest_of(algorithm)),
        *("--scheme", algorithm.split(":")[1].split("-")[0]),
    )
    assert made == 0
    with device(tcti) as opened:
        registers = opened._read([0, 4, 7])
    theirs = parse_public(public_at(tcti, handle))
    public.write_bytes(theirs.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    # Theirs, judged by us.
    found = quote.check(
        tcti_quote.read_bytes(),
        parse_signature(signature.read_bytes()),
        theirs.key,
        {"sha256": registers},
    )
    assert found.attest.extra_data == BINDING
    if "rsapss" in algorithm:
        return  # tpm2_checkquote (5.4) takes every RSA signature for PKCS #1 v1.5
    # And by them; with another nonce not.
    checked = ("-u", str(public), "-m", str(tcti_quote), "-s", str(signature))
    digest = ("-g", digest_of(algorithm))
    assert tool(tcti, "tpm2_checkquote", *checked, *digest, "-q", BINDING.hex()) == 0
    assert tool(tcti, "tpm2_checkquote", *checked, *digest, "-q", bytes(32).hex()) == 1


def digest_of(algorithm):
    return algorithm.split(":")[1].split("-")[1]


@swtpm
def test_tpm2_checkquote_accepts_ours(tcti, tmp_path):
    make_key(tcti, 0x81010020, "ecc256:ecdsa-sha256:null")
    ours = TpmEvidence.decode(TpmAttester(tcti, handle=0x81010020).quote(REPORT_DATA))
    key = parse_public(ours.public).key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    contents = {
        "public": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "quote": ours.attest,
        "signature": ours.signature,
        "registers": b"".join(ours.registers["sha256"].values()),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    arguments = ("-u", tmp_path / "public", "-m", tmp_path / "quote", "-s", tmp_path / "signature")
    arguments = [*map(str, arguments), "-g", "sha256", "-q"]
    assert tool(tcti, "tpm2_checkquote", *arguments, BINDING.hex()) == 0
    assert tool(tcti, "tpm2_checkquote", *arguments, bytes(32).hex()) == 1
    flipped = bytearray(ours.attest)
    flipped[-1] ^= 1
    (tmp_path / "quote").write_bytes(flipped)
    assert tool(tcti, "tpm2_checkquote", *arguments, BINDING.hex()) == 1


@swtpm
def test_a_key_that_signs_anything_is_refused(tcti):
    free = tpm._ATTRIBUTES.replace("|restricted", "")
    make_key(tcti, 0x81010030, "ecc256:ecdsa-sha256:null", attributes=free)
    evidence = TpmAttester(tcti, handle=0x81010030).quote(REPORT_DATA)
    with pytest.raises(Refused) as caught:
        quote.verify(evidence, roots=frozenset(), at=NOW)
    assert caught.value.code is Code.TPM_AK_ATTRIBUTES


@swtpm
def test_a_key_certified_in_the_tpm_is_proven(tcti):
    """TPM2_Certify by the TPM itself: the name is what we say a name is."""
    make_key(tcti, 0x81010040, RSA_KEY)
    with primary(tcti) as (stack, esys, key):
        certifier = esys.tr_from_tpmpublic(0x81010040)
        scheme = stack.TPMT_SIG_SCHEME(scheme=stack.TPM2_ALG.NULL)
        attest, signature = esys.certify(key, certifier, stack.TPM2B_DATA(), scheme)
    certification = u(len(bytes(attest)), 2) + bytes(attest) + bytes(signature.marshal())
    device_key = parse_public(public_at(tcti, 0x81010040)).key
    holder = SimpleNamespace(private=SimpleNamespace(public_key=lambda: device_key))
    chain = certificate(holder).pem + issuer().pem + issuer().issuer.pem
    claims = quote.verify(
        TpmAttester(tcti).quote(REPORT_DATA),
        chain=chain,
        certification=certification,
        roots=ROOTS,
        at=NOW,
    )
    assert claims.provenance == "certification"


# Azure


@pytest.fixture(scope="module")
def azure_machine(tcti):
    """The TPM made to look like Azure's: its key at its handle, an HCL report over it in NV."""
    stack = load_stack()
    make_key(tcti, ATTESTATION_KEY, RSA_KEY)
    key = parse_public(public_at(tcti, ATTESTATION_KEY)).key
    known = SimpleNamespace(public_key=key)
    # Azure's index holds 2,600 bytes, swtpm's 2,048 at most.
    machine = AzureMachine(runtime={"keys": [web_key(known)]}, hcl={"padding": b"\0"})
    report = machine.hcl_report
    with stack.ESAPI(tcti) as esys:
        attributes = stack.TPMA_NV.parse(OWNED)
        area = stack.TPM2B_NV_PUBLIC(
            stack.TPMS_NV_PUBLIC(
                nvIndex=HCL_REPORT,
                nameAlg=stack.TPM2_ALG.SHA256,
                attributes=attributes,
                dataSize=len(report),
            )
        )
        index = esys.nv_define_space(b"", area)
        for offset in range(0, len(report), 512):
            esys.nv_write(index, report[offset : offset + 512], offset)
    return machine


@swtpm
def test_azure_s_quote_verifies(tcti, azure_machine, tmp_path):
    asked = []

    def endorse(report):
        asked.append(report)
        return azure_machine.snp_machine.key_certificate.der

    evidence = AzureAttester(endorse, tcti).quote(REPORT_DATA)
    claims = azure.verify(
        evidence, chain=[azure_machine.issuers], roots=azure_machine.roots, at=NOW
    )
    assert claims.tpm.extra_data == BINDING
    assert claims.tee == "snp"
    assert [len(report) for report in asked] == [1184]
    log = tmp_path / "log"
    log.write_bytes(b"events")
    assert AzureAttester(endorse, tcti, event_log=log).attest(REPORT_DATA).event_log == b"events"


@swtpm
def test_azure_s_attester_brings_no_log_and_refuses_another_report(tcti, azure_machine):
    attester = AzureAttester(lambda _: azure_machine.snp_machine.key_certificate.der, tcti)
    evidence = attester.attest(REPORT_DATA)
    assert (evidence.event_log, evidence.quote[:1]) == (b"", b"{")
    stack = load_stack()
    for magic in (b"HCLB", b"HCLA"):
        with stack.ESAPI(tcti) as esys:
            esys.nv_write(esys.tr_from_tpmpublic(HCL_REPORT), magic, 0)
        if magic == b"HCLB":
            with pytest.raises(TpmUnavailable, match="of the hardware"):
                attester.attest(REPORT_DATA)
    assert attester.attest(REPORT_DATA).quote


@swtpm
def test_the_attester_brings_the_log_of_what_was_booted(tcti, tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"events")
    evidence = TpmAttester(tcti, event_log=log).attest(REPORT_DATA)
    assert evidence.event_log == b"events"
    assert quote.verify(evidence.quote, roots=frozenset(), at=NOW).extra_data == BINDING


@swtpm
def test_an_ordinary_tpm_is_no_azure_machine(tcti, tmp_path):
    with pytest.raises(TpmUnavailable, match="the TPM"):
        TpmAttester(tcti, handle=0x810100FF).quote(REPORT_DATA)
    with pytest.raises(TpmUnavailable, match="the TPM"):
        TpmAttester(f"swtpm:path={tmp_path}/none").quote(REPORT_DATA)


# Without a TPM


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    for make in (TpmAttester, lambda: AzureAttester(bytes)):
        with pytest.raises(TpmUnavailable, match="extra `tpm`"):
            make()


def test_the_event_log_is_the_kernel_s_or_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(tpm, "load_stack", lambda: None)
    log = tmp_path / "log"
    log.write_bytes(b"events")
    assert TpmAttester(event_log=log).event_log() == b"events"
    assert TpmAttester(event_log=tmp_path / "none").event_log() == b""


class Restless:
    """A TPM whose registers change behind each quote, as often as it is told to."""

    def __init__(self, changes, attest):
        self.changes = changes
        self.attest = attest

    def quote(self, *_):
        return self.attest, SimpleNamespace(marshal=lambda: b"signature")

    def pcr_read(self, selection):
        if self.changes < 0:
            return 0, None, []
        self.changes -= 1
        indices = selection.split(":")[1].split(",")
        return 0, None, [bytes([self.changes >= 0]) * 32 for _ in indices]


def still(indices=(0, 7)):
    """A quote over registers that are zero."""
    return quote_of({SHA256: dict.fromkeys(indices, bytes(32))}, SHA256)


def test_registers_that_change_are_quoted_again():
    class Calm(Restless):
        def pcr_read(self, selection):
            self.changes = max(self.changes, 0)
            return super().pcr_read(selection) if self.changes else self.zeros(selection)

        def zeros(self, selection):
            return 0, None, [bytes(32) for _ in selection.split(",")]

    quoted = tpm.Device(None, Calm(2, still())).quote("key", b"", (0, 7))
    assert isinstance(quoted, Quoted)
    assert parse_quote(quoted.attest).attested.selection == (("sha256", (0, 7)),)
    assert quoted.registers == {0: bytes(32), 7: bytes(32)}


def test_registers_that_never_rest_are_given_up():
    with pytest.raises(TpmUnavailable, match="change"):
        tpm.Device(None, Restless(1000, still())).quote("key", b"", (0, 7))


def test_a_tpm_without_the_bank_is_refused():
    with pytest.raises(TpmUnavailable, match="no registers"):
        tpm.Device(None, Restless(-1, still())).quote("key", b"", (0, 7))
