"""Real processes, killed or refused by their disk at every operation on a file.

An audit hook of the interpreter sees each file opened, renamed, made and removed below the log's
directory. At the n-th it ends the process with SIGKILL, or from then on the disk is full. Then the
log is opened again: what was acknowledged is there, and nothing that was signed is contradicted.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from transparency import note as notes
from transparency.checkpoint import Checkpoint
from transparency.epochs import EpochNotes
from transparency.errors import LogInUse, TransparencyError, WitnessRefusal
from transparency.log import Log
from transparency.merkle import Tree
from transparency.note import KeyType, Note, Signer
from transparency.policy import verify_log_signature
from transparency.witness import Witness
from transparency.witness_request import AddCheckpoint
from wire.merkle import leaf_hash

SIGNER = Signer.from_seed("log.example", KeyType.ED25519, bytes(32))
WITNESS = Signer.from_seed("witness.example", KeyType.COSIGNATURE, bytes(31) + b"\1")
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
MODES = ("kill", "tear", "full")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """SIGKILL leaves the system's caches as they are: nothing here depends on the disk itself."""
    monkeypatch.setattr("transparency.files.os.fsync", lambda _: None)


def entry(i):
    return b"entry %d" % i


def fail_at(directory, point, mode):
    """From now on, fail this process at its `point`-th operation below the directory."""
    count = 0
    root = os.fspath(directory)

    def hook(event, arguments):
        nonlocal count
        if event not in EVENTS or not str(arguments[0]).startswith(root):
            return
        count += 1
        if count <= point:
            return
        if mode == "full":
            raise OSError(errno.ENOSPC, "no space left on device")
        if mode == "tear" and event == "os.rename":
            count = -1000  # what follows is not the log's
            os.truncate(arguments[0], Path(arguments[0]).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def in_a_process(work):
    """Run `work(say)` in a forked process; return what it said, and whether it ended by itself."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            os.close(reader)
            work(lambda *words: os.write(writer, json.dumps(words).encode() + b"\n"))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = [json.loads(line) for line in stream]
    _, status = os.waitpid(pid, 0)
    assert status == 0 or os.WIFSIGNALED(status), "the process failed in another way"
    return said, status == 0


def write(directory, point, mode):
    """Be a log's writer that fails at a point; say what it showed and acknowledged."""

    def work(say):
        log = Log(directory, SIGNER)
        fail_at(directory, point, mode)
        try:
            for count in (3, 1, 258):
                log.append([entry(log.size + i) for i in range(count)])
                say("signed", log.size, log.tree.root().hex())
                log.publish(log.signed_note.encode())
                say("acknowledged", log.size, log.tree.root().hex())
                with contextlib.suppress(OSError):  # then the node is not admitted, that is all
                    log.put_attachment(b"bundle %d" % log.size)
        except OSError:
            with pytest.raises(LogInUse):
                log.append([b"after the error"])

    return in_a_process(work)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A log two entries before its first full tile."""
    directory = tmp_path_factory.mktemp("begun") / "log"
    with Log(directory, SIGNER) as log:
        log.append([entry(i) for i in range(254)])
        log.publish(log.signed_note.encode())
    return directory


@pytest.mark.parametrize("mode", MODES)
def test_a_log_that_fails_at_any_operation_loses_nothing_and_never_forks(begun, tmp_path, mode):
    seen = set()
    for point in range(400):
        directory = tmp_path / str(point)
        shutil.copytree(begun, directory)
        said, whole = write(directory, point, mode)
        size = check_reopened(directory, said)
        seen.add((len(said), size))
        shutil.rmtree(directory)
        if whole and len(said) == 6:
            break
    assert point > 60
    assert len(seen) >= 7  # before and after each of the six steps
    assert (6, 516) in seen


def check_reopened(directory, said):
    """Open the log again: everything said holds. Return its size."""
    with Log(directory, SIGNER) as log:
        acknowledged = [size for word, size, _ in said if word == "acknowledged"]
        assert log.published_size >= max([254, *acknowledged])
        assert list(log.entries()) == [entry(i) for i in range(log.size)]
        for _, size, root in said:
            assert log.tree.root(size).hex() == root
        published = verify_log_signature(Note.parse(log.published_note), [SIGNER.verifier_key])
        assert log.tree.root(published.size) == published.root
        size = log.size
        assert not list(directory.glob("tile/**/*.writing"))
        log.append([b"it goes on"])
        log.publish(log.signed_note.encode())
        assert log.entry(size) == b"it goes on"
    return size


def signed(size, tree):
    text = Checkpoint(SIGNER.name, size, tree.root(size)).encode()
    return Note(text, (notes.sign(text, SIGNER),)).encode()


@pytest.mark.parametrize("mode", MODES)
def test_a_witness_that_fails_at_any_operation_never_forgets_what_it_cosigned(tmp_path, mode):
    tree, fork = Tree(), Tree()
    for i in range(8):
        tree.append(leaf_hash(entry(i)))
        fork.append(leaf_hash(b"fork %d" % i))
    for point in range(40):
        state = tmp_path / f"{mode}{point}" / "state"
        said, whole = cosign(state, tree, point, mode)
        witness = Witness(SIGNER.verifier_key, WITNESS, state)
        cosigned = max([size for (size,) in said], default=0)
        assert cosigned <= witness.size <= cosigned + 1
        proof = fork.consistency_proof(witness.size, 8)
        if witness.size:
            with pytest.raises(WitnessRefusal):
                witness.add_checkpoint(
                    AddCheckpoint(witness.size, proof, signed(8, fork)).encode(), 0
                )
        proof = tree.consistency_proof(witness.size, 8)
        assert witness.add_checkpoint(
            AddCheckpoint(witness.size, proof, signed(8, tree)).encode(), 0
        )
        if whole and len(said) == 4:
            break
    assert point > 8


def cosign(state, tree, point, mode):
    def work(say):
        fail_at(state.parent, point, mode)
        try:
            witness = Witness(SIGNER.verifier_key, WITNESS, state)
            for size in range(1, 5):
                proof = tree.consistency_proof(size - 1, size)
                body = AddCheckpoint(size - 1, proof, signed(size, tree)).encode()
                witness.add_checkpoint(body, 0)
                say(size)
        except OSError:
            assert mode == "full"

    return in_a_process(work)


@pytest.mark.parametrize("mode", MODES)
def test_epoch_notes_are_whole_or_absent(tmp_path, mode):
    tree = Tree()
    tree.append(leaf_hash(b"leaf"))
    note = signed(1, tree)
    for point in range(40):
        directory = tmp_path / f"{mode}{point}"
        said, whole = save(directory, note, point, mode)
        kept = EpochNotes(directory, 600)
        for epoch, *_ in said:
            assert kept.get(epoch) == note
        assert {kept.get(epoch) for epoch in range(4)} <= {None, note}
        kept.save(9, note)
        if whole and len(said) == 3:
            break
    assert point > 8


def save(directory, note, point, mode):
    def work(say):
        fail_at(directory, point, mode)
        try:
            kept = EpochNotes(directory, 600)
            for epoch in range(3):
                kept.save(epoch, note)
                say(epoch)
        except OSError:
            assert mode == "full"

    return in_a_process(work)


@pytest.mark.parametrize("name", ["signed", "checkpoint", "tile/0/000.p/254"])
def test_a_file_that_the_disk_tore_is_noticed(begun, tmp_path, name):
    """Below the file system's promises nothing is safe; then the log says so and signs no more."""
    directory = tmp_path / "log"
    for keep in (0, 1, 0.5):
        shutil.copytree(begun, directory)
        path = directory / name
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep) if keep != 1 else -1])
        with pytest.raises(TransparencyError):
            Log(directory, SIGNER)
        shutil.rmtree(directory)
