"""Data at rest: sealed, bounded, and gone with the request."""

import errno
import os

import pytest

from engine.transfer import store as module
from engine.transfer.errors import (
    BlockPoisoned,
    BlockUnusable,
    ChannelClosed,
    DiskFull,
    KeyDestroyed,
    PoolFull,
    UnknownBlock,
)
from engine.transfer.store import SealedStore

DATA = bytes(range(256)) * 4


@pytest.fixture(params=["memory", "file"])
def make(request, tmp_path):
    folder = tmp_path if request.param == "file" else None
    return lambda capacity=10**6: SealedStore(capacity, folder=folder)


SIZE = len(DATA)


def content(request, block, size=SIZE):
    out = bytearray(size)
    request.get(block, out)
    return bytes(out)


def test_blocks_come_back_by_version(make):
    with make().begin() as request:
        request.put(1, 1, DATA)
        request.put(2, 1, DATA[:10])
        request.put(1, 5, DATA[::-1])
        out = bytearray(len(DATA))
        assert request.get(1, out) == 5
        assert out == DATA[::-1]
        assert content(request, 2, 10) == DATA[:10]


def test_nothing_is_left_when_a_request_ends(make, tmp_path):
    store = make()
    request = store.begin()
    request.put(1, 1, DATA)
    assert store.used == len(DATA) + 16
    request.destroy()
    request.destroy()
    assert store.used == 0
    assert list(tmp_path.iterdir()) == []
    for use in (
        lambda: request.put(1, 2, DATA),
        lambda: request.get(1, bytearray(len(DATA))),
        lambda: request.drop(1),
    ):
        with pytest.raises(KeyDestroyed):
            use()


def test_an_error_destroys_as_well(make):
    store = make()

    def failing():
        with store.begin() as request:
            request.put(1, 1, DATA)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert store.used == 0


def test_what_is_kept_is_not_what_was_put_and_differs_by_request():
    store = SealedStore(10**6)
    requests = store.begin(), store.begin()
    for request in requests:
        request.put(1, 1, DATA)
    kept = [bytes(request._shelf.kept[1]) for request in requests]
    assert kept[0] != kept[1]
    assert all(DATA[:16] not in each for each in kept)


@pytest.mark.parametrize("at", [0, 500, 1039])
def test_changed_bytes_are_refused_and_nothing_comes_out(at):
    request = SealedStore(10**6).begin()
    request.put(1, 1, DATA)
    request._shelf.kept[1][at] ^= 1
    out = bytearray(b"x" * len(DATA))
    with pytest.raises(BlockPoisoned):
        request.get(1, out)
    assert not any(out)


def test_an_older_version_or_another_block_in_its_place_is_refused():
    request = SealedStore(10**6).begin()
    request.put(1, 1, DATA)
    old = request._shelf.kept[1]
    request.put(1, 2, DATA)
    request.put(2, 2, DATA)
    for forged in (old, request._shelf.kept[2], bytearray()):
        request._shelf.kept[1] = forged
        with pytest.raises(BlockPoisoned):
            content(request, 1)


def test_a_truncated_file_is_refused(tmp_path):
    request = SealedStore(10**6, folder=tmp_path).begin()
    request.put(1, 1, DATA)
    request._shelf._file.truncate(100)
    with pytest.raises(BlockPoisoned):
        content(request, 1)


@pytest.mark.parametrize("version", [0, 3, 4, 2**32])
def test_a_version_is_sealed_once_and_versions_rise(make, version):
    with make().begin() as request:
        request.put(1, 4, DATA)
        request.drop(1)
        with pytest.raises(BlockUnusable):
            request.put(1, version, DATA)


def test_a_full_pool_says_so_and_keeps_what_it_has(make):
    store = make(2500)
    with store.begin() as request, store.begin() as other:
        request.put(1, 1, DATA)
        other.put(1, 1, DATA)
        with pytest.raises(PoolFull):
            request.put(2, 1, DATA)
        assert content(request, 1) == DATA
        other.drop(1)
        request.put(2, 2, DATA)
        with pytest.raises(UnknownBlock):
            other.drop(1)
    assert store.used == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_and_keeps_what_it_has(tmp_path, monkeypatch, code):
    store = SealedStore(10**6, folder=tmp_path)
    with store.begin() as request:
        request.put(1, 1, DATA)

        def full(*_):
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(module.os, "pwrite", full)
            with pytest.raises(DiskFull):
                request.put(1, 2, DATA)
        assert content(request, 1) == DATA
        assert store.used == len(DATA) + 16
        request.put(1, 3, DATA[::-1])
        assert content(request, 1) == DATA[::-1]


def test_other_errors_of_a_disk_pass(tmp_path, monkeypatch):
    with SealedStore(10**6, folder=tmp_path).begin() as request:

        def broken(*_):
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(module.os, "pwrite", broken)
        with pytest.raises(OSError, match="broken"):
            request.put(1, 1, DATA)


def test_places_in_a_file_are_used_again(tmp_path):
    with SealedStore(10**6, folder=tmp_path).begin() as request:
        for version in range(1, 50):
            request.put(version % 3, version, DATA)
        assert request._shelf._end <= 4 * (len(DATA) + 16)


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(module.os, "pwrite", lambda fd, data, at: write(fd, data[:100], at))
    with SealedStore(10**6, folder=tmp_path).begin() as request:
        request.put(1, 1, DATA)
        assert content(request, 1) == DATA


def test_a_closed_store_begins_nothing(make):
    store = make()
    store.close()
    with pytest.raises(ChannelClosed):
        store.begin()
