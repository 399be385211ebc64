"""One forgery for each check of a manifest, and what XML can do besides."""

import random
import re
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from signxml.algorithms import CanonicalizationMethod

from attestation.errors import Code, Refused
from attestation.verifier.nvidia import manifest as manifest_format
from attestation.verifier.nvidia import rim
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE, ca_extensions, ec_key, rsa_key
from tests.support.evidence.nvidia import (
    DRIVER,
    DRIVER_INDEXES,
    MEASUREMENTS,
    NOW,
    golden,
    manifest,
    resource,
    rim_root,
    rim_signer,
    roots,
    sign,
    signing,
    tag,
)

MANIFEST = manifest()
MALFORMED = Code.GPU_RIM_MALFORMED
SEVEN = [b"\x07" * 48]


def check(xml=MANIFEST, *, pinned=None, at=NOW):
    return rim.verify(xml, roots=roots() if pinned is None else pinned, at=at)


def code(*args, **kwargs):
    with pytest.raises(Refused) as caught:
        check(*args, **kwargs)
    return caught.value.code


def signed(*resources, **options):
    """A signed manifest of these resources."""
    return manifest(resources=list(resources), **options)


def replaced(pattern, by, xml=MANIFEST):
    changed, count = re.subn(pattern, by, xml, count=1, flags=re.DOTALL)
    assert count == 1
    return changed


def test_an_honest_manifest_states_its_golden_measurements():
    found = check()
    assert (found.golden.version, found.golden.product) == (DRIVER, "GH100")
    expected = {i: frozenset(values) for i, values in golden(DRIVER_INDEXES).items()}
    assert found.golden.measurements == expected  # and not the inactive one
    assert [each.subject for each in found.chain] == [each.subject for each in rim_signer().chain]
    stated = found.to_json()
    assert stated["version"] == DRIVER
    assert stated["signer"] == "CN=Signer of the tests,O=Tests"
    assert stated["measurements"]["20"] == [MEASUREMENTS[21].hex()]


def test_a_measurement_may_have_alternatives():
    found = check(signed(resource(7, [b"\x01" * 48, b"\x02" * 48])))
    assert found.golden.measurements == {7: {b"\x01" * 48, b"\x02" * 48}}


@pytest.mark.parametrize(
    "canonical",
    [
        CanonicalizationMethod.CANONICAL_XML_1_0,
        CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    ],
)
def test_other_canonical_forms_without_comments_are_accepted(canonical):
    assert check(etree.tostring(sign(tag(), canonical=canonical))).golden == check().golden


def test_an_xml_declaration_and_comments_change_nothing():
    xml = b'<?xml version="1.0" encoding="UTF-8"?>\n' + MANIFEST
    assert check(xml).golden == check().golden
    commented = replaced(rb"(</Payload>)", rb"<!-- Payload -->\1")
    assert check(commented).golden == check().golden
    inside = replaced(rb"<ds:SignedInfo>", rb"<ds:SignedInfo><!-- a comment -->")
    assert check(inside).golden == check().golden


# Form


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"junk",
        b"<a>",
        b"<a/>",
        MANIFEST[:-1],
        MANIFEST + b"<a/>",
        MANIFEST + b"\xff",
        MANIFEST.decode().encode("utf-16"),
        b"x" * (manifest_format.MAX_LENGTH + 1),
        etree.tostring(tag()),
    ],
    ids=range(10),
)
def test_what_is_no_signed_manifest(xml):
    assert code(xml) == MALFORMED


LAUGHS = b"".join(
    b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10 if n else b"ha" * 50) for n in range(10)
)


@pytest.mark.parametrize(
    "prologue",
    [
        b"<!DOCTYPE a [" + LAUGHS + b"]>",
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd">',
        b'<!DOCTYPE a [<!ENTITY x "%s">]>' % (b"y" * 100_000),
    ],
    ids=["laughs", "file", "network", "quadratic"],
)
def test_a_document_type_is_refused_before_it_is_parsed(prologue):
    entity = b"&l9;" if b"l9" in prologue else b"&x;"
    started = time.process_time()
    assert code(prologue + MANIFEST) == MALFORMED
    assert code(prologue + b"<a>" + entity * 100 + b"</a>") == MALFORMED
    assert code(prologue + b'<a b="' + entity * 100 + b'"/>') == MALFORMED
    assert time.process_time() - started < 1


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-7", "EBCDIC-CP-US", "ISO-8859-1"])
def test_a_declared_encoding_hides_nothing(encoding):
    # The parser reads UTF-8 whatever is declared, and so sees what the check has seen.
    xml = f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + MANIFEST
    assert check(xml).golden == check().golden


def test_deep_nesting_and_many_attributes_end_soon():
    started = time.process_time()
    assert code(b"<a>" * 20_000 + b"</a>" * 20_000) == MALFORMED
    many = b" ".join(b'a%d=""' % n for n in range(20_000))
    assert code(b"<a %s/>" % many) == MALFORMED
    assert time.process_time() - started < 2


def test_an_undeclared_entity():
    assert code(replaced(rb"GH100", rb"&amp;x;&x;")) == MALFORMED


def test_a_document_that_is_no_swid_tag():
    other = etree.Element("{urn:other}SoftwareIdentity")
    other.extend(list(tag()))
    assert code(etree.tostring(sign(other))) == MALFORMED


def test_a_second_signature_and_one_that_is_hidden():
    signature = re.search(rb"<ds:Signature .*</ds:Signature>", MANIFEST, re.DOTALL)[0]
    assert code(replaced(rb"<ds:Signature ", signature + rb"<ds:Signature ")) == MALFORMED
    moved = MANIFEST.replace(signature, b"").replace(b"</Payload>", signature + b"</Payload>")
    assert code(moved) == MALFORMED
    wrapped = b'<SoftwareIdentity xmlns="%s">%s</SoftwareIdentity>' % (
        manifest_format.SWID[1:-1].encode(),
        MANIFEST,
    )
    assert code(wrapped) == MALFORMED


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (rb'Reference URI=""', rb'Reference URI="#x"'),
        (rb'Reference URI=""', rb'Reference URI="http://127.0.0.1:1/"'),
        (rb'Reference URI=""', rb"Reference"),
        (rb"(<ds:Reference .*</ds:Reference>)", rb"\1\1"),
        (rb"<ds:Reference .*</ds:Reference>", rb""),
        (rb"<ds:KeyInfo>", rb"<ds:KeyInfo><ds:KeyName>x</ds:KeyName>"),
        (rb"<ds:KeyInfo>.*</ds:KeyInfo>", rb""),
        (rb"(<ds:X509Data>.*</ds:X509Data>)", rb"\1\1"),
        (rb"(<ds:X509Data>).*(</ds:X509Data>)", rb"\1\2"),
        (rb"<ds:X509Certificate>", rb"<ds:X509Certificate>AAAA"),
        (rb"<ds:X509Certificate>", rb"<ds:X509Certificate>?"),
        (rb"<ds:X509Certificate>.", rb"<ds:X509Certificate>"),
        (rb"<ds:SignatureValue>", rb"<ds:SignatureValue>AAAA"),
        (rb"<ds:SignatureValue>[^<]*", rb"<ds:SignatureValue>"),
        (rb"<ds:SignatureValue>", rb"<ds:SignatureValue><x/>"),
        (rb"<ds:DigestValue>[^<]*", rb"<ds:DigestValue>AAAA"),
        (rb"<ds:Transforms>.*</ds:Transforms>", rb""),
        (rb"</ds:Transforms>", rb"<ds:Transform Algorithm='x'/></ds:Transforms>"),
        (rb"</ds:KeyInfo>", rb"</ds:KeyInfo><ds:Object/>"),
    ],
    ids=range(19),
)
def test_a_signature_of_another_form(pattern, by):
    assert code(replaced(pattern, by)) == MALFORMED


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (rb"xmldsig-more#ecdsa-sha384", rb"xmldsig-more#ecdsa-sha256"),
        (rb"2001/04/xmldsig-more#ecdsa-sha384", rb"2000/09/xmldsig#hmac-sha1"),
        (rb"2001/04/xmldsig-more#sha384", rb"2000/09/xmldsig#sha1"),
        (rb"xmldsig#enveloped-signature", rb"xmldsig#base64"),
        (rb"2006/12/xml-c14n11", rb"2006/12/xml-c14n11#WithComments"),
        (
            rb"(<ds:SignatureMethod [^>]*)/>",
            rb"\1><ds:HMACOutputLength>1</ds:HMACOutputLength></ds:SignatureMethod>",
        ),
        (
            rb"(<ds:Transform Algorithm=\")[^\"]*(\"/></ds:Transforms>)",
            rb"\1http://www.w3.org/TR/1999/REC-xslt-19991116\2",
        ),
    ],
    ids=range(7),
)
def test_a_signature_by_another_algorithm(pattern, by):
    assert code(replaced(pattern, by)) == Code.GPU_RIM_ALGORITHM


# Signer


def test_a_root_that_is_not_pinned():
    assert code(pinned=frozenset()) == Code.GPU_RIM_ROOT_UNKNOWN
    last = rb"<ds:X509Certificate>(?!.*<ds:X509Certificate>).*</ds:X509Certificate>"
    assert code(replaced(last, b"")) == Code.GPU_RIM_ROOT_UNKNOWN


def test_a_chain_in_another_order():
    one = rb"(<ds:X509Certificate>[^<]*</ds:X509Certificate>)"
    assert code(replaced(one + rb"\s*" + one, rb"\2\1")) == Code.GPU_RIM_CHAIN_BAD


def test_a_signer_that_may_issue_nothing_issues_a_signer():
    forged = rim_signer().issue("Forger", extensions=(signing(),))
    assert code(manifest(signer=forged)) == Code.GPU_RIM_CHAIN_BAD


def test_a_chain_that_is_too_long():
    long = rim_root()
    for n in range(rim.MAX_CHAIN_LENGTH):
        long = long.issue(f"CA {n}", extensions=ca_extensions())
    assert code(manifest(signer=long)) == MALFORMED


def test_a_signer_before_and_after_its_dates():
    assert code(at=NOT_BEFORE - 1) == Code.GPU_RIM_NOT_YET_VALID
    assert code(at=NOT_AFTER + 1) == Code.GPU_RIM_EXPIRED
    assert code(at=1 << 62) == Code.GPU_RIM_EXPIRED
    assert code(at=-(1 << 62)) == Code.GPU_RIM_NOT_YET_VALID


def test_a_short_lived_signer_is_checked_at_the_time_that_is_given():
    xml = manifest(signer=rim_signer(not_after=NOW))
    assert check(xml, at=NOW).golden == check().golden
    assert code(xml, at=NOW + 1) == Code.GPU_RIM_EXPIRED


@pytest.mark.parametrize(
    "options",
    [
        {"extensions": (signing(digital_signature=False),)},
        {"extensions": ()},
        {"key": ec_key("p256", ec.SECP256R1())},
        {"key": rsa_key("signer")},
    ],
)
def test_a_signer_whose_key_is_not_one_for_signatures(options):
    xml = manifest()
    signer = rim_signer(**options)
    certificate = re.search(rb"-----\n(.*)-----END", signer.pem, re.DOTALL)[1]
    xml = replaced(rb"(<ds:X509Certificate>)[^<]*", rb"\1" + certificate, xml)
    assert code(xml) == Code.GPU_RIM_KEY_UNSUITABLE


# Signature


def test_a_changed_measurement_or_version():
    digit = MEASUREMENTS[21].hex().encode()
    changed = bytes([digit[0] ^ 1]) + digit[1:]
    assert code(MANIFEST.replace(digit, changed)) == Code.GPU_RIM_SIGNATURE_BAD
    assert code(replaced(DRIVER.encode(), b"550.90.08")) == Code.GPU_RIM_SIGNATURE_BAD
    assert code(replaced(rb'active="True"', rb'active="False"')) == Code.GPU_RIM_SIGNATURE_BAD


def test_a_changed_signature_digest_or_signer():
    for element in (rb"SignatureValue", rb"DigestValue"):
        xml = replaced(rb"(?<=<ds:%b>)." % element, lambda m: b"B" if m[0] == b"A" else b"A")
        assert code(xml) == Code.GPU_RIM_SIGNATURE_BAD
    other = manifest(signer=rim_signer("Another signer"))
    value = re.search(rb"SignatureValue>([^<]*)", other)[1]
    exchanged = replaced(rb"(?<=SignatureValue>)[^<]*", lambda _: value)
    assert code(exchanged) == Code.GPU_RIM_SIGNATURE_BAD


def test_an_added_element():
    added = etree.tostring(resource(99, SEVEN))
    assert code(replaced(rb"</Payload>", added + rb"</Payload>")) == Code.GPU_RIM_SIGNATURE_BAD


def test_a_document_without_canonical_form():
    # Canonical XML (section 2.1) has none for relative namespaces.
    assert code(replaced(rb"<SoftwareIdentity ", rb'<SoftwareIdentity xmlns:r="r" ')) == MALFORMED


def flips(count):
    rng = random.Random(4)
    for _ in range(count):
        at, by = rng.randrange(len(MANIFEST)), rng.randrange(1, 256)
        changed = bytearray(MANIFEST)
        changed[at] ^= by
        yield bytes(changed)


def outcome(xml):
    try:
        return check(xml)
    except Refused:
        return None


def check_flips(count):
    """What XML takes for the same (white space, a comment, a prefix) may pass; nothing else."""
    honest, refused = check(), 0
    for changed in flips(count):
        found = outcome(changed)
        refused += found is None
        assert found is None or found == honest
    assert refused > 0.9 * count


def test_no_flipped_byte_changes_what_a_manifest_states():
    check_flips(200)


@pytest.mark.soak
def test_no_flipped_byte_of_ten_thousand_changes_what_a_manifest_states():
    check_flips(10_000)


# Values, signed as they are


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Opaque"},
        {"type": None},
        {"index": "255"},
        {"index": "1001"},
        {"index": "07"},
        {"index": "-1"},
        {"index": "\u0667"},
        {"index": None},
        {"active": "true"},
        {"active": None},
        {"size": "32"},
        {"size": None},
        {"alternatives": "0"},
        {"alternatives": "2"},
        {"alternatives": "65"},
        {"alternatives": None},
        {f"{manifest_format.SHA384}Hash0": "07" * 47},
        {f"{manifest_format.SHA384}Hash0": "0g" * 48},
        {f"{manifest_format.SHA384}Hash0": None},
        {f"{manifest_format.SHA384}Hash1": "08" * 48},
        {f"{manifest_format.SHA384}Hash00": "08" * 48},
    ],
    ids=str,
)
def test_a_measurement_that_is_not_of_its_form(changes):
    assert code(signed(resource(7, SEVEN, **changes))) == MALFORMED


def test_a_measurement_without_any_hash():
    assert code(signed(resource(7, [], alternatives="0"))) == MALFORMED


def test_an_index_twice_and_no_active_measurement():
    inactive = resource(7, SEVEN, active="False")
    assert code(signed(resource(7, SEVEN), inactive)) == MALFORMED
    assert code(signed(resource(8, SEVEN, active="False"))) == MALFORMED


def test_a_reference_value_of_another_kind_is_not_passed_over():
    other = etree.Element(f"{manifest_format.SWID}File", name="x")
    assert code(signed(resource(7, SEVEN), other)) == MALFORMED


@pytest.mark.parametrize(
    "options", [{"version": ""}, {"version": "5 5"}, {"product": "?"}, {"meta": 0}, {"meta": 2}]
)
def test_a_manifest_without_one_version_and_product(options):
    assert code(manifest(**options)) == MALFORMED


def test_a_manifest_need_not_name_a_product():
    assert check(manifest(product="")).golden.product == ""


def test_two_payloads():
    made = tag()
    etree.SubElement(made, f"{manifest_format.SWID}Payload")
    assert code(etree.tostring(sign(made))) == MALFORMED
