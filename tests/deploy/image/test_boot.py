"""The image booted: the worker in it is accepted for what the build predicted, and for no other.

Real QEMU (without KVM), OVMF, TPM of software, log, witnesses, relay and proxy. Where a tool is
missing the tests skip and say which. A folder named by SOTTOVOCE_IMAGE is taken as it was built.
"""

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path

import httpx
import pytest

from attestation.attester.self_appraisal import appraise_own
from attestation.bundle import Bundle
from attestation.errors import AppraisalError, Code
from attestation.verifier.node import ReferenceValues, appraise
from attestation.verifier.policy import admission_policy
from attestation.verifier.weakness import WARNINGS, Weakness
from client.trust import load_trust
from deploy.image import boot, build, machine, registers, root, uki, verity
from deploy.image.parties import ACCEPTED, start_path, wait_for_health
from sottovoce.local import LOG, PROXY
from wire import cbor
from wire.key_document import KeyDocument

TOOLS = (*machine.TOOLS, "mkfs.erofs", "objcopy", "gcc", "dpkg-deb", "apt-get")
FILES = (
    build.STUB,
    machine.KEY,
    *(Path(machine.settings()[name]) for name in ("code", "variables")),
)
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
MISSING += [str(path) for path in FILES if not path.exists()]

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
PORTS = 9300
TAP = 62
"""The offset of the port at which the test listens in on what the worker sends to the log."""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The built image: `root.img` and `image.efi`."""
    given = os.environ.get("SOTTOVOCE_IMAGE")
    if given:
        return build.Built(Path(given) / "root.img", Path(given) / "image.efi")
    cache = build.SOURCE / "build" / "image-cache"
    root.fetch(cache)
    return build.build(tmp_path_factory.mktemp("image"), cache)


@pytest.fixture(scope="module")
def predicted(image):
    return registers.predict(image.image.read_bytes(), machine.reference())


@pytest.fixture(scope="module")
def stage(image, tmp_path_factory):
    measurement = registers.measurement(image.image.read_bytes(), machine.reference())
    folder = tmp_path_factory.mktemp("stage")
    with boot.stage(folder, measurement, port_base=PORTS) as running:
        yield running


@pytest.fixture(scope="module")
def tap(stage):
    """Bundles on their way to the log, which get there all the same."""
    return Tap(stage.local.port(TAP), stage.local.port(LOG))


class Tap:
    """Carries connections to the log, and keeps the bundles of node leaves that pass."""

    def __init__(self, port, log_port):
        self.port = port
        self.bundles = []
        self._log_port = log_port
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()

    async def _serve(self):
        server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        await server.serve_forever()

    async def _carry(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(
            line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
        )
        body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
        if head.startswith(b"POST /add "):
            self.bundles.append(cbor.decode(body)["attachment"])
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._log_port)
        ours.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
        writer.write(await theirs.read())
        writer.close()
        ours.close()


def appraised(bundle, stage, measurement):
    """What a client finds whose log holds this one release, and all else that the bundle names."""
    trust = load_trust(stage.local.trust)
    decoded = Bundle.decode(bundle)
    document = KeyDocument.decode(decoded.key_document)
    reference = ReferenceValues(
        key_documents=frozenset({document.digest}),
        releases={"tpm": frozenset({measurement})},
        models={document.model: frozenset({document.model_digest})},
        policies=frozenset({document.policy_digest}),
        roots=trust.roots,
        log_origin=trust.log_origin,
    )
    policy = admission_policy(frozenset(map(Weakness, ACCEPTED)))
    return appraise(bundle, policy=policy, reference=reference, at=int(time.time()))


@pytest.fixture(scope="module")
def accepted(image, stage, tap):
    """The unmodified image, booted, accepted, asked; what was seen of it."""
    with stage.running(image.image, image.root, log_port=tap.port) as booted:
        booted.wait_for("PCR 14", boot.BOOT_S)
        booted.wait_for(boot.READY, boot.READY_S)
        start_path(stage.supervisor, stage.local)
        wait_for_health(stage.supervisor, stage.local.url(PROXY), boot.ANSWER_S)
        completion = boot.ask(stage.local, boot.QUESTION)
        url = f"{stage.local.url(PROXY)}/verification"
        shown = httpx.get(url, trust_env=False, timeout=30).json()
    return booted.registers(), completion, shown, tap.bundles[-1]


def test_a_boot_leaves_exactly_the_predicted_registers(accepted, predicted):
    assert accepted[0] == predicted


def test_the_worker_inside_answers_and_is_labelled_boot_only(accepted):
    _, completion, shown, _ = accepted
    assert completion["attestation"]["platform"] == "tpm"
    steps = {step["step"]: step for step in completion["attestation"]["verification"]}
    assert {step["outcome"] for step in steps.values()} == {"pass"}
    assert WARNINGS[Weakness.BOOT_ONLY] in steps["quote-signature"]["reason"]
    [node] = shown["nodes"]
    assert node["verified"]


def test_a_client_that_does_not_name_the_weakness_refuses_it(accepted, stage):
    trust = load_trust(stage.local.trust)
    with pytest.raises(AppraisalError) as refused:
        appraise_own(
            accepted[3],
            policy=admission_policy(frozenset({Weakness.COMPUTE_UNVERIFIED})),
            roots=trust.roots,
            log_origin=trust.log_origin,
            at=int(time.time()),
        )
    assert refused.value.code == Code.PLATFORM_REFUSED


def test_a_client_that_pins_another_root_refuses_it(accepted, stage, image):
    measurement = registers.measurement(image.image.read_bytes(), machine.reference())
    assert appraised(accepted[3], stage, measurement).platform == "tpm"
    trust = load_trust(stage.local.trust)
    with pytest.raises(AppraisalError) as refused:
        appraise_own(
            accepted[3],
            policy=admission_policy(frozenset(map(Weakness, ACCEPTED))),
            roots={"tpm": frozenset({bytes(32)})},
            log_origin=trust.log_origin,
            at=int(time.time()),
        )
    assert refused.value.code == Code.TPM_ROOT_UNKNOWN


def changed_part(image, name, old, new, out):
    """Write the image with one byte of a section changed."""
    data = bytearray(image.image.read_bytes())
    section = uki.sections(bytes(data))[name]
    at = data.index(old, section.offset, section.offset + section.size)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
    data[at : at + len(new)] = new
    out.write_bytes(data)
    return out


def assert_refused(stage, tap, image, changed):
    """Boot a changed image: it runs, it quotes, and the quote is refused for what it measures."""
    before = len(tap.bundles)
    with stage.running(changed.image, changed.root, log_port=tap.port) as booted:
        booted.wait_for('"event":"LeafNotTaken","reason":"admission_refused"', boot.READY_S)
        assert boot.READY not in booted.console
    measurement = registers.measurement(image.image.read_bytes(), machine.reference())
    bundle = tap.bundles[-1]
    assert len(tap.bundles) > before
    with pytest.raises(AppraisalError) as refused:
        appraised(bundle, stage, measurement)
    assert refused.value.code == Code.MEASUREMENT_NOT_LOGGED
    other = registers.measurement(changed.image.read_bytes(), machine.reference())
    assert appraised(bundle, stage, other).platform == "tpm"
    expected = registers.predict(changed.image.read_bytes(), machine.reference())
    held = registers.predict(image.image.read_bytes(), machine.reference())
    assert {index for index in held if expected[index] != held[index]} == {4, 9, 11}
    assert booted.registers() == expected


@pytest.mark.usefixtures("accepted")
def test_one_changed_byte_of_the_command_line_is_refused(stage, tap, image, tmp_path):
    out = tmp_path / "changed.efi"
    changed = changed_part(image, ".cmdline", b"panic=-1", b"panic=-2", out)
    assert_refused(stage, tap, image, build.Built(image.root, changed))


@pytest.mark.usefixtures("accepted")
def test_one_changed_byte_of_the_initrd_is_refused(stage, tap, image, tmp_path):
    out = tmp_path / "changed.efi"
    changed = changed_part(image, ".initrd", b"the worker ended", b"the Worker ended", out)
    assert_refused(stage, tap, image, build.Built(image.root, changed))


@pytest.fixture
def changed_root(image, tmp_path):
    """The root with one byte of the program it starts changed."""
    path = tmp_path / "root.img"
    shutil.copyfile(image.root, path)
    old = b"What the image runs: one worker"
    with path.open("r+b") as file:
        at = find(file, old)
        file.seek(at)
        file.write(b"w")
    return path


def find(file, wanted):
    """Where these bytes are in a large file."""
    offset, chunk, size = 0, b"", 1 << 24
    while more := file.read(size):
        chunk = chunk[-len(wanted) :] + more
        if wanted in chunk:
            return offset + len(more) - len(chunk) + chunk.index(wanted)
        offset += len(more)
    raise AssertionError("it is not there")


@pytest.mark.usefixtures("accepted")
def test_one_changed_byte_of_the_root_stops_the_machine(stage, image, changed_root):
    with stage.running(image.image, changed_root) as booted:
        booted.wait_for("Kernel panic - not syncing: dm-verity device corrupted", boot.BOOT_S)
        assert boot.READY not in booted.console


@pytest.mark.usefixtures("accepted")
def test_a_changed_root_with_a_tree_of_its_own_is_refused(
    stage, tap, image, changed_root, tmp_path
):
    [option] = [
        word
        for word in uki.content(
            image.image.read_bytes(), uki.sections(image.image.read_bytes())[".cmdline"]
        ).split()
        if word.startswith(b"sottovoce.root=")
    ]
    blocks = int(option.partition(b"=")[2].partition(b":")[0])
    with changed_root.open("r+b") as file:
        file.truncate(blocks * verity.BLOCK)
    tree = verity.append_tree(changed_root)
    out = tmp_path / "changed.efi"
    data = image.image.read_bytes()
    assert data.count(option) == 1
    out.write_bytes(data.replace(option, tree.option.encode()))
    assert_refused(stage, tap, image, build.Built(changed_root, out))
