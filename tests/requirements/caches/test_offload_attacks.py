"""Sealed data at rest, attacked by who holds the memory or the disk that it lies in.

The unsafe stores of these tests keep plain bytes, or draw one key and id for every request.
"""

import pytest

from engine.transfer.errors import BlockPoisoned
from engine.transfer.store import SealedStore

DATA = bytes(range(256)) * 4


class Plain:
    """Unsafe: an AEAD that seals nothing and checks nothing."""

    def seal_into(self, _nonce, data, _associated, out):
        out[: len(data)] = data

    def open_into(self, _nonce, sealed, _associated, out):
        out[:] = sealed[: len(out)]

    def close(self):
        pass


def request_of(*, sealed=True, **options):
    request = SealedStore(1 << 20, **options).begin()
    if not sealed:
        request._aead = Plain()
    return request


def kept(request, block=1):
    return bytes(request._shelf.get(block))


def test_extraction_from_stolen_storage_fails():
    request = request_of()
    request.put(1, 1, DATA)
    assert not any(DATA[at : at + 8] in kept(request) for at in range(0, 256, 8))


def test_extraction_from_plain_storage_succeeds():
    request = request_of(sealed=False)
    request.put(1, 1, DATA)
    assert DATA in kept(request)


def test_inference_of_equal_contents_fails():
    """Nor between duplicates that two stores hold, which is all a differential would need."""
    stores = [request_of() for _ in range(2)]
    for request in stores:
        request.put(1, 1, DATA)
        request.put(2, 1, DATA)
    assert len({kept(request, block) for request in stores for block in (1, 2)}) == 4


def test_inference_of_equal_contents_succeeds_under_one_key_and_id():
    stores = [request_of(secret=bytes(32), random=bytes) for _ in range(2)]
    for request in stores:
        request.put(1, 1, DATA)
    assert kept(stores[0]) == kept(stores[1])


def replay(request):
    """Put a version back that the storage remembers; return what is then read."""
    request.put(1, 1, DATA)
    old = kept(request)
    request.put(1, 2, DATA[::-1])
    request._shelf.put(1, memoryview(old))
    out = bytearray(len(DATA))
    request.get(1, out)
    return bytes(out)


def test_replay_of_an_older_version_is_noticed():
    with pytest.raises(BlockPoisoned):
        replay(request_of())


def test_replay_succeeds_where_nothing_is_sealed():
    assert replay(request_of(sealed=False)) == DATA


def test_access_pattern_tells_sizes_and_no_contents():
    sizes = []
    for data in (DATA, DATA[::-1], bytes(len(DATA))):
        request = request_of()
        request.put(1, 1, data)
        request.put(2, 1, data)
        sizes.append([len(kept(request, block)) for block in (1, 2)])
    assert sizes == [[len(DATA) + 16] * 2] * 3
