"""`sottovoce log audit`: a monitor sees the whole log, and finds what no single client can."""

import json
from dataclasses import replace

import httpx
import pytest

from transparency.errors import (
    LogUnavailable,
    Malformed,
    NotConvicting,
    QuorumMissing,
    StorageDamaged,
)
from transparency.leaf import Leaf, ModelLeaf, ReleaseLeaf, Role, WithdrawalLeaf, sign_leaf
from transparency.misbehaviour import Misbehaviour, check_misbehaviour
from transparency.monitor import Monitor, http_fetch
from transparency.statements import statements_digest
from transparency.tiles import Tile, changed_tiles, encode_entries, tile_bytes
from wire.merkle import leaf_hash


def files_of(log, document=None):
    """The static files that a log of these entries serves."""
    size = len(log.entries)
    files = {"checkpoint": log.note()}
    for tile in changed_tiles(0, size):
        first = tile.index * 256
        files[tile.path] = (
            encode_entries(log.entries[first : first + tile.width])
            if tile.level is None
            else tile_bytes(log.tree, tile)
        )
    if document is not None:
        files["nodes"] = document.encode()
    return files


@pytest.fixture
def audited(world, tmp_path):
    """Run an audit of these files; every run is of the same monitor."""

    def run(files, at=world.at):
        monitor = Monitor(
            world.policy, world.roles, world.epoch_seconds, tmp_path / "monitor", files.get
        )
        return monitor.run(at)

    return run


@pytest.fixture
def honest(world):
    log = world.fake_log()
    log.add_statements()
    row = log.add_node("one")
    before = [log.add_list(row, epoch=world.epoch - i) for i in (2, 1)]
    return log, row, before


def proofs(tmp_path):
    return [
        Misbehaviour.decode(path.read_bytes()) for path in (tmp_path / "monitor").glob("proof-*")
    ]


def convicted(world, found):
    return check_misbehaviour(found, world.log.verifier_key, frozenset({world.roles.list}))


def test_an_honest_log_passes_again_and_again(world, audited, honest, tmp_path):
    log, row, _ = honest
    listed = log.add_list(row)
    report = audited(files_of(log, log.document(listed)))
    assert (report.size, report.previous_size, report.findings) == (8, 0, ())
    assert report.document == "checked"
    assert report.counts["node-list"] == 3
    log.add_list(row, epoch=world.epoch + 1)
    report = audited(files_of(log))
    assert (report.size, report.previous_size, report.findings) == (9, 8, ())
    assert report.document.startswith("skipped")
    assert not proofs(tmp_path)
    assert (tmp_path / "monitor/checkpoint").read_bytes() == log.note()


def test_more_than_one_tile_is_read(world, audited):
    log = world.fake_log()
    for i in range(300):
        log.add(ModelLeaf(f"m{i}", world.seed("model")), "release")
    files = files_of(log)
    assert audited(files).size == 300
    # A mirror that keeps only full tiles of a log that has grown shows its older checkpoint still.
    full = {**files, Tile(0, 0).path: files[Tile(0, 0).path]}
    full["checkpoint"] = log.note(size=200)
    report = audited(full)
    assert [found.code for found in report.findings] == ["rolled_back"]


def test_two_lists_for_one_epoch_are_found_and_convict(world, audited, honest, tmp_path):
    log, row, _ = honest
    log.add_list(row)
    log.add_list(row, log.add_node("two"))
    [found] = audited(files_of(log)).findings
    assert found.code == "two_lists"
    assert [Leaf.decode(leaf).unverified_body().epoch for leaf in found.leaves] == [world.epoch] * 2
    assert proofs(tmp_path) == [found]
    assert "2 node lists" in convicted(world, found)
    assert not (tmp_path / "monitor/checkpoint").exists()


def test_a_fork_is_found_by_what_the_monitor_saw_last_time(world, audited, honest):
    log, row, _ = honest
    audited(files_of(log))
    fork, row, _ = world.fake_log(), *honest[1:]
    fork.add_statements()
    fork.add_node("another")
    fork.add_node("one")
    for i in (2, 1, 0):
        fork.add_list(row, epoch=world.epoch - i)
    [found] = audited(files_of(fork)).findings
    assert found.code == "inconsistent"
    assert found.checkpoints == (log.note(), fork.note())
    assert "does not continue" in convicted(world, found)


def test_two_roots_for_one_size_convict(world, audited, honest):
    log, row, _ = honest
    audited(files_of(log))
    fork = world.fake_log()
    fork.add_statements()
    fork.add_node("another")
    fork.add_list(row, epoch=world.epoch - 2)
    fork.add_list(row, epoch=world.epoch - 1)
    found = audited(files_of(fork)).findings
    assert "two roots for size 7" in convicted(world, found[-1])


def test_a_rolled_back_log_is_found_but_a_cache_could_do_it_too(world, audited, honest):
    log, *_ = honest
    audited(files_of(log))
    shorter = world.fake_log()
    shorter.add_statements()
    [found] = audited(files_of(shorter)).findings
    assert found.code == "rolled_back"
    with pytest.raises(NotConvicting):
        convicted(world, found)


def test_a_leaf_that_was_never_a_leaf_convicts(world, audited, honest):
    log, *_ = honest
    log.entries.append(b"not a leaf")
    log.tree.append(leaf_hash(b"not a leaf"))
    [found] = audited(files_of(log)).findings
    assert (found.code, found.leaves) == ("malformed", (b"not a leaf",))
    assert "is none" in convicted(world, found)
    with pytest.raises(NotConvicting):
        convicted(world, replace(found, leaves=(log.entries[0],)))


def leaves_that_no_log_may_hold(world, log, row):
    good = sign_leaf(ModelLeaf("m", world.seed("m")), world.key("release"))
    yield "wrong_role", sign_leaf(ReleaseLeaf("2", {"tdx": bytes(48)}), world.key("stranger"))
    yield "bad_signature", replace(good, signature=bytes(64))
    yield "duplicate_leaf", Leaf.decode(log.entries[0])
    yield "wrong_amendment", sign_leaf(WithdrawalLeaf(bytes(32), "none"), world.key("release"))
    body = log.list_body(row)
    yield "wrong_list", sign_leaf(replace(body, statements=bytes(32)), world.key("list"))
    yield "wrong_list", sign_leaf(replace(body, not_after=body.not_after + 1), world.key("list"))
    stranger = row._replace(key_document_digest=world.seed("never admitted"))
    yield "wrong_list", sign_leaf(log.list_body(stranger), world.key("list"))
    far = world.epoch + 100
    yield "wrong_list", sign_leaf(log.list_body(row, epoch=far), world.key("list"))


@pytest.mark.parametrize("case", range(8))
def test_a_leaf_that_no_log_may_hold_is_found(world, audited, honest, case):
    log, row, _ = honest
    code, leaf = list(leaves_that_no_log_may_hold(world, log, row))[case]
    index = log.add_leaf(leaf)
    [found] = audited(files_of(log)).findings
    assert found.code == code
    assert found.leaves == (leaf.encode(),)
    assert found.log_proofs[0].index == index
    if code == "bad_signature":
        assert "is none" in convicted(world, found)
    else:  # whose key had which role, and what the tree held before, a leaf alone does not show
        with pytest.raises(NotConvicting):
            convicted(world, found)


def test_a_withdrawal_is_followed(world, audited, honest):
    log, row, _ = honest
    log.add(WithdrawalLeaf(leaf_hash(log.entries[0]), "a flaw"), "release")
    body = log.list_body(row)
    current = [leaf_hash(log.entries[index]) for index in (1, 2, 3, 7)]
    log.add(replace(body, statements=statements_digest(current)), "list")
    assert audited(files_of(log)).findings == ()
    log.add(log.list_body(row, epoch=world.epoch + 1), "list")  # shows what was withdrawn
    assert [found.code for found in audited(files_of(log)).findings] == ["wrong_list"]


def test_a_document_newer_than_the_checkpoint_is_no_finding(audited, honest):
    log, row, _ = honest
    before = files_of(log)
    document = log.document(log.add_list(row))
    assert audited(before | {"nodes": document.encode()}).findings == ()


def test_a_log_that_shows_no_document_now_is_audited_without(world, honest, tmp_path):
    def fetch(path):
        if path == "nodes":
            raise LogUnavailable("the log answered 503")
        return files_of(honest[0]).get(path)

    monitor = Monitor(world.policy, world.roles, world.epoch_seconds, tmp_path / "m", fetch)
    assert monitor.run(world.at).document.startswith("skipped")


def test_a_key_that_lost_its_role_signs_nothing_more(world, audited, honest):
    log, *_ = honest
    log.add_rotation(Role.RELEASE, "release", "release 2")
    log.add(ModelLeaf("new", world.seed("m")), "release 2")
    assert audited(files_of(log)).findings == ()
    log.add(ModelLeaf("old", world.seed("m")), "release")
    log.add_rotation(Role.RELEASE, "release", "release 3")
    found = audited(files_of(log)).findings
    assert [each.code for each in found] == ["wrong_role", "wrong_role"]


def test_clients_shown_another_list_than_the_logs_are_noticed(world, audited, honest):
    log, row, _ = honest
    other = world.fake_log()
    other.entries, other.bundles = list(log.entries), dict(log.bundles)
    for entry in other.entries:
        other.tree.append(leaf_hash(entry))
    log.add_list(row)
    two = other.add_node("two")
    listed = other.add_list(row, two)
    report = audited(files_of(log) | {"nodes": other.document(listed).encode()})
    assert report.document == "differs"
    [found] = report.findings
    assert found.code == "two_lists"
    assert convicted(world, found)


def test_clients_shown_another_tree_are_noticed(world, audited, honest):
    log, row, _ = honest
    other = world.fake_log()
    other.add_statements()
    other.add_node("one")
    listed = other.add_list(row)
    log.add_list(row)
    log.add_list(row, epoch=world.epoch + 1)
    report = audited(files_of(log) | {"nodes": other.document(listed).encode()})
    # The list itself is another one too: it stands behind fewer leaves, but says the same.
    assert [found.code for found in report.findings] == ["inconsistent"]
    assert "does not continue" in convicted(world, report.findings[0])


def test_a_nodes_document_that_does_not_verify_is_a_finding(audited, honest):
    log, *_ = honest
    report = audited(files_of(log) | {"nodes": b"{}"})
    assert [found.code for found in report.findings] == ["malformed"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda files: files.pop("tile/entries/000.p/7"),
        lambda files: files.pop("tile/0/000.p/7"),
        lambda files: files.update({"tile/entries/000.p/7": b"\0\1x"}),
        lambda files: files.update({"tile/0/000.p/7": bytes(32 * 7)}),
    ],
)
def test_a_log_that_does_not_serve_its_entries_is_found(audited, honest, spoil):
    files = files_of(honest[0])
    spoil(files)
    [found] = audited(files).findings
    assert found.message.startswith("not served")


def test_entries_of_another_tree_are_found(world, audited, honest):
    files = files_of(honest[0])
    other = world.fake_log()
    for i in range(7):
        other.add(ModelLeaf(f"m{i}", world.seed("model")), "release")
    files |= {path: data for path, data in files_of(other).items() if path != "checkpoint"}
    [found] = audited(files).findings
    assert (found.code, found.message) == (
        "not_included",
        "the entries are not the tree that the log signed",
    )


def test_the_checkpoint_must_satisfy_the_policy(audited, honest):
    files = files_of(honest[0])
    with pytest.raises(QuorumMissing):
        audited(files | {"checkpoint": honest[0].note(witnesses=())})
    with pytest.raises(LogUnavailable):
        audited({})


def test_what_the_monitor_remembers_must_be_of_its_log(audited, honest, tmp_path):
    (tmp_path / "monitor").mkdir()
    (tmp_path / "monitor/checkpoint").write_bytes(b"nonsense")
    with pytest.raises(StorageDamaged):
        audited(files_of(honest[0]))


def test_a_finding_is_published_in_one_encoding(audited, honest):
    log, row, _ = honest
    log.add_list(row)
    log.add_list(row, log.add_node("two"))
    report = audited(files_of(log))
    data = report.findings[0].encode()
    assert Misbehaviour.decode(data).encode() == data
    assert json.loads(json.dumps(report.to_json()))["findings"][0]["code"] == "two_lists"


@pytest.mark.parametrize(
    "change",
    [
        lambda _, found: replace(found, leaves=found.leaves[:1]),
        lambda _, found: replace(found, leaves=(found.leaves[0],) * 2),
        lambda _, found: replace(found, code="other"),
        lambda _, found: replace(
            found, checkpoints=(found.checkpoints[0].replace(b"log.example", b"log.another"),)
        ),
        lambda world, found: replace(
            found,
            leaves=(
                found.leaves[0],
                sign_leaf(Leaf.decode(found.leaves[1]).unverified_body(), world.key("me")).encode(),
            ),
        ),
        lambda _, found: replace(
            found,
            leaves=(
                found.leaves[0],
                replace(Leaf.decode(found.leaves[1]), signature=bytes(64)).encode(),
            ),
        ),
    ],
)
def test_a_proof_that_was_made_up_convicts_nobody(world, audited, honest, change):
    log, row, _ = honest
    log.add_list(row)
    log.add_list(row, epoch=world.epoch + 1)
    log.add_list(row, log.add_node("two"))
    [found] = audited(files_of(log)).findings
    assert convicted(world, found)
    with pytest.raises(NotConvicting):
        convicted(world, change(world, found))


def test_consistent_checkpoints_convict_nobody(world, honest):
    log, row, _ = honest
    older = log.note()
    log.add_list(row)
    newer, tree = log.note(), log.tree
    proof = tuple(tree.consistency_proof(7, 8))
    for prefix_root, path in ((tree.root(7), proof), (b"", proof), (bytes(32), proof)):
        made = Misbehaviour("inconsistent", "x", (older, newer), (), (), prefix_root, path)
        with pytest.raises(NotConvicting):
            convicted(world, made)
    with pytest.raises(NotConvicting):
        convicted(world, Misbehaviour("inconsistent", "x", (older, older)))


@pytest.mark.parametrize(
    "change",
    [
        {"prefix_root": "AAAA"},
        {"checkpoints": ["\ud800"]},
        {"checkpoints": ["no note"]},
        {"leaves": ["?"]},
        {"log_proofs": ["none"]},
        {"code": 1},
    ],
)
def test_what_is_no_proof_of_misbehaviour_is_malformed(change):
    members = Misbehaviour("two_lists", "x").to_json()
    assert Misbehaviour.decode(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())
    data = json.dumps(members | change, separators=(",", ":"), sort_keys=True).encode()
    with pytest.raises(Malformed):
        Misbehaviour.decode(data)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"code":"a","code":"b"}', b" " * (1 << 20) + b" "])
def test_bytes_that_are_no_proof_of_misbehaviour_are_malformed(data):
    with pytest.raises(Malformed):
        Misbehaviour.decode(data)
    with pytest.raises(Malformed):
        Misbehaviour.decode(Misbehaviour("two_lists", "x").encode() + b"\n")


def test_files_are_fetched_within_bounds(monkeypatch):
    monkeypatch.setattr("transparency.monitor.MAX_FILE", 100)

    def answer(request):
        status = {"/missing": 404, "/broken": 500}.get(request.url.path, 200)
        if request.url.path == "/gone":
            raise httpx.ConnectError("gone")
        length = 101 if request.url.path == "/long" else 100
        return httpx.Response(status, stream=httpx.ByteStream(bytes(length)))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        fetch = http_fetch("http://log.example/", client)
        assert fetch("file") == bytes(100)
        assert fetch("missing") is None
        for path in ("broken", "gone", "long"):
            with pytest.raises(LogUnavailable):
                fetch(path)
