"""The log on disk: what is acknowledged stays, through restarts, crashes and damage."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from transparency import files, note
from transparency.checkpoint import Checkpoint
from transparency.errors import LogInUse, StorageDamaged, UnsafeKeyFile
from transparency.files import read_seed, write_durably
from transparency.log import Log
from transparency.merkle import Tree, verify_consistency
from transparency.note import KeyType, Note, Signer
from transparency.policy import verify_log_signature
from transparency.tiles import Tile, decode_entries, split_hashes
from wire.merkle import leaf_hash, root

SIGNER = Signer.from_seed("log.example", KeyType.ED25519, bytes(32))


def entry(i):
    return b"entry %d" % i


def publish(log):
    log.publish(log.signed_note.encode())


def checkpoint_of(data):
    return verify_log_signature(Note.parse(data), [SIGNER.verifier_key])


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def quick(monkeypatch):
    """Skip the disk's own slowness where a test is about many files, not about crashes."""
    monkeypatch.setattr(files.os, "fsync", lambda _: None)


def test_a_new_log_is_empty_and_shows_nothing(directory):
    with Log(directory, SIGNER) as log:
        assert (log.size, log.published_size, log.published_note) == (0, 0, None)
        assert log.read_tile(Tile(0, 0, 1)) is None
        with pytest.raises(ValueError, match="no such"):
            log.entry(0)


@pytest.mark.usefixtures("quick")
def test_what_was_appended_is_there_after_a_restart(directory):
    with Log(directory, SIGNER) as log:
        assert log.append([entry(i) for i in range(5)]) == (0, 1, 2, 3, 4)
        log.append([entry(i) for i in range(5, 600)])
        publish(log)
    with Log(directory, SIGNER) as log:
        assert (log.size, log.published_size) == (600, 600)
        assert log.tree.root() == root([leaf_hash(entry(i)) for i in range(600)])
        assert list(log.entries()) == [entry(i) for i in range(600)]
        assert log.entry(300) == entry(300)
        assert log.append([entry(600)]) == (600,)
        assert log.entry(599) == entry(599)


def test_an_identical_entry_keeps_its_first_index(directory):
    with Log(directory, SIGNER) as log:
        assert log.append([b"a", b"b", b"a"]) == (0, 1, 0)
        assert log.append([b"b"]) == (1,)
        assert log.size == 2
    with Log(directory, SIGNER) as log:
        assert log.index_of(b"b") == 1
        assert log.index_of(b"c") is None
        assert log.append([b"b", b"c"]) == (1, 2)


@pytest.mark.usefixtures("quick")
def test_files_are_those_of_the_specification_at_every_published_size(directory):
    tree = Tree()
    with Log(directory, SIGNER) as log:
        for count in (1, 3, 251, 2, 260, 4):
            log.append([entry(log.size + i) for i in range(count)])
            publish(log)
            while tree.size < log.size:
                tree.append(leaf_hash(entry(tree.size)))
            _check_files(directory, tree)


def _check_files(directory, tree):
    """Rebuild the tree from the files alone, as a mirror of the log would."""
    checkpoint = checkpoint_of((directory / "checkpoint").read_bytes())
    assert (checkpoint.size, checkpoint.root) == (tree.size, tree.root())
    hashes = []
    for number in range(-(-tree.size // 256)):
        width = min(256, tree.size - 256 * number)
        tile = split_hashes((directory / Tile(0, number, width).path).read_bytes())
        entries = decode_entries((directory / Tile(None, number, width).path).read_bytes())
        assert [leaf_hash(item) for item in entries] == list(tile)
        hashes += tile
    assert root(hashes) == checkpoint.root
    if tree.size >= 256:
        above = split_hashes((directory / Tile(1, 0, tree.size // 256).path).read_bytes())
        assert above[0] == root(hashes[:256])


@pytest.mark.usefixtures("quick")
def test_partial_tiles_go_when_the_published_full_tile_is_there(directory):
    with Log(directory, SIGNER) as log:
        log.append([entry(i) for i in range(255)])
        publish(log)
        log.append([entry(255), entry(256)])
        assert log.read_tile(Tile(0, 0, 255)) is not None
        assert log.read_tile(Tile(0, 0)) is None
        publish(log)
        assert log.read_tile(Tile(0, 0, 255)) is None
        assert log.read_tile(Tile(0, 0)) is not None
        assert log.read_tile(Tile(None, 0)) is not None
        assert log.read_tile(Tile(1, 0, 1)) is not None


def test_readers_see_no_further_than_the_published_checkpoint(directory):
    with Log(directory, SIGNER) as log:
        log.append([b"a"])
        publish(log)
        log.append([b"b"])
        assert log.read_tile(Tile(0, 0, 1)) == leaf_hash(b"a")
        assert log.read_tile(Tile(0, 0, 2)) is None
        assert log.read_tile(Tile(None, 0, 2)) is None
        assert log.published_size == 1
        assert log.size == 2


def test_what_was_signed_but_not_published_continues_after_a_restart(directory):
    with Log(directory, SIGNER) as log:
        log.append([b"a"])
        publish(log)
        log.append([b"b"])
        signed = log.signed_note
    with Log(directory, SIGNER) as log:
        assert (log.size, log.published_size) == (2, 1)
        assert log.signed_note == signed


class Crash(Exception):
    """The moment the power goes."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("survivors", range(8))
def test_a_crash_between_any_two_writes_neither_loses_nor_forks(directory, monkeypatch, survivors):
    with Log(directory, SIGNER) as log:
        log.append([entry(i) for i in range(254)])
        publish(log)
        before = log.published_note
    real, count = write_durably, iter(range(100))

    def failing(path, data):
        if next(count) >= survivors:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(path.name + ".writing").write_bytes(data[: len(data) // 2])
            raise Crash
        real(path, data)

    with Log(directory, SIGNER) as log:
        monkeypatch.setattr("transparency.log.write_durably", failing)
        shown = []
        try:
            log.append([b"lost %d" % i for i in range(5)])
            shown.append(log.signed_note)
            publish(log)
        except Crash:
            with pytest.raises(LogInUse):
                log.append([b"after the crash"])
    monkeypatch.setattr("transparency.log.write_durably", real)
    with Log(directory, SIGNER) as log:
        assert log.published_note in {before, *(signed.encode() for signed in shown)}
        assert [entry(i) for i in range(254)] == list(log.entries())[:254]
        for signed in shown:
            old = Checkpoint.parse(signed.text)
            assert log.tree.root(old.size) == old.root
        log.append([b"other %d" % i for i in range(8)])
        publish(log)
        size = log.size
        tree = Tree()
        for item in log.entries():
            tree.append(leaf_hash(item))
        assert tree.root() == log.tree.root()
        assert size == (267 if shown else 262)
    assert not list(directory.rglob("tile/**/*.writing"))
    _check_files(directory, tree)


def test_a_log_has_one_writer(directory):
    with Log(directory, SIGNER) as log:
        with pytest.raises(LogInUse):
            Log(directory, SIGNER)
        log.append([b"a"])
    with pytest.raises(LogInUse):
        log.append([b"b"])
    with pytest.raises(LogInUse):
        log.publish(b"")
    Log(directory, SIGNER).close()


@pytest.fixture
def filled(directory, quick):  # noqa: ARG001 - a fixture may only ask for another by name
    with Log(directory, SIGNER) as log:
        log.append([entry(i) for i in range(300)])
        publish(log)
    return directory


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / "tile/0/000").unlink(),
        lambda d: (d / "tile/0/000").write_bytes(bytes(8192)),
        lambda d: (d / "tile/0/001.p/44").write_bytes(bytes(32)),
        lambda d: (d / "tile/entries/001.p/44").write_bytes(b"\0\0"),
        lambda d: (d / "tile/entries/001.p/44").unlink(),
        lambda d: (d / "signed").unlink(),
        lambda d: (d / "signed").write_bytes(b"nonsense"),
        lambda d: (d / "checkpoint").write_bytes(b"nonsense"),
    ],
)
def test_a_damaged_log_does_not_start(filled, damage):
    damage(filled)
    with pytest.raises(StorageDamaged):
        Log(filled, SIGNER)


def test_a_damaged_log_leaves_no_lock_behind(filled):
    (filled / "checkpoint").unlink()
    (filled / "signed").rename(filled / "kept")
    (filled / "signed").write_bytes(b"nonsense")
    with pytest.raises(StorageDamaged):
        Log(filled, SIGNER)
    (filled / "kept").rename(filled / "signed")
    with Log(filled, SIGNER) as log:
        assert log.size == 300


def test_a_log_does_not_open_under_another_name_or_key(filled):
    for name, seed in (("other.example", bytes(32)), ("log.example", bytes(31) + b"\1")):
        with pytest.raises(StorageDamaged):
            Log(filled, Signer.from_seed(name, KeyType.ED25519, seed))


def test_a_bundle_damaged_while_serving_is_noticed(filled):
    with Log(filled, SIGNER) as log:
        (filled / "tile/entries/000").write_bytes(b"\0\0")
        with pytest.raises(StorageDamaged):
            log.entry(0)


def test_only_a_note_over_this_tree_is_published(filled):
    other = Tree()
    other.append(leaf_hash(b"other"))
    for size, tree_root in ((1, other.root()), (301, bytes(32))):
        text = Checkpoint("log.example", size, tree_root).encode()
        data = Note(text, (note.sign(text, SIGNER),)).encode()
        with Log(filled, SIGNER) as log, pytest.raises(StorageDamaged):
            log.publish(data)


def test_attachments_are_kept_by_digest(filled):
    data = b"evidence"
    digest = hashlib.sha256(data).digest()
    with Log(filled, SIGNER) as log:
        log.put_attachment(data)
        log.put_attachment(data)
        assert log.attachment(digest) == data
        with pytest.raises(StorageDamaged):
            log.attachment(bytes(32))
        (filled / "attachments" / digest.hex()[:2] / digest.hex()).write_bytes(b"other")
        with pytest.raises(StorageDamaged):
            log.attachment(digest)


def test_an_entry_longer_than_a_bundle_can_frame_is_refused(filled):
    with Log(filled, SIGNER) as log:
        with pytest.raises(ValueError, match="65535"):
            log.append([bytes(65536)])
        assert log.append([bytes(65535)]) == (300,)


WRITER = """
import sys
from pathlib import Path
from transparency.log import Log
from transparency.note import KeyType, Signer
log = Log(Path(sys.argv[1]), Signer.from_seed("log.example", KeyType.ED25519, bytes(32)))
while True:
    size = log.size
    log.append([b"entry %d" % (size + i) for i in range(1 + size % 7)])
    log.publish(log.signed_note.encode())
    sys.stdout.write(f"{log.size} {log.tree.root().hex()}\\n")
    sys.stdout.flush()
"""


def test_a_killed_log_keeps_all_it_acknowledged(directory):
    acknowledged = []
    for lines in (3, 11, 40):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
            env={**os.environ, "PYTHONPATH": "."},
        )
        acknowledged += [writer.stdout.readline().split() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        # What was printed and not yet read was acknowledged too.
        acknowledged += [line.split() for line in writer.stdout if line.endswith("\n")]
        writer.stdout.close()
    with Log(directory, SIGNER) as log:
        assert log.size >= int(acknowledged[-1][0])
        assert list(log.entries()) == [entry(i) for i in range(log.size)]
        published = checkpoint_of(log.published_note)
        for size, root_hex in acknowledged:
            verify_consistency(
                int(size),
                bytes.fromhex(root_hex),
                published.size,
                published.root,
                log.tree.consistency_proof(int(size), published.size),
            )


def test_a_seed_file_is_read_in_its_one_form(tmp_path):
    path = tmp_path / "seed"
    path.write_text("0f" * 32 + "\n")
    path.chmod(0o600)
    assert read_seed(path) == b"\x0f" * 32
    path.chmod(0o640)
    with pytest.raises(UnsafeKeyFile, match="0600"):
        read_seed(path)
    path.chmod(0o600)
    for text in ("", "0f" * 32, "0F" * 32 + "\n", "0f" * 31 + "\n", "0f" * 32 + "\n\n", "é"):
        path.write_text(text)
        with pytest.raises(UnsafeKeyFile):
            read_seed(path)


def test_a_published_note_over_another_tree_stops_the_log(filled):
    text = Checkpoint("log.example", 299, bytes(32)).encode()
    data = Note(text, (note.sign(text, SIGNER),)).encode()
    (filled / "checkpoint").write_bytes(data)
    with pytest.raises(StorageDamaged, match="another tree"):
        Log(filled, SIGNER)
