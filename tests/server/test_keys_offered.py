"""`GET /ohttp-keys`: what a worker offers to clients that take keys from a relay."""

from __future__ import annotations

import httpx

from server.control import NodesMessage
from server.front import Listed
from tests.fuzz.wire_targets import ALGORITHMS, KEYS
from wire.hpke import Kem
from wire.key_config import KeyConfig, decode_list


def configs(first_id: int) -> tuple[KeyConfig, ...]:
    return tuple(
        KeyConfig(first_id + n, kem, KEYS[kem].public_bytes, ALGORITHMS)
        for n, kem in enumerate((Kem.XWING, Kem.X25519))
    )


def test_a_worker_offers_its_own_keys_with_the_kem_that_everybody_knows_first(worker):
    answer = httpx.get(f"{worker.url}/ohttp-keys", trust_env=False)
    assert answer.headers["content-type"] == "application/ohttp-keys"
    offered = decode_list(answer.content)
    assert [config.kem for config in offered] == [Kem.X25519, Kem.XWING]
    assert set(offered) == set(worker.document.key_configs)


def test_only_the_newest_generation_is_offered_and_older_ones_are_still_known():
    told = NodesMessage({"old": configs(0), "new": configs(2)}, suspect=True)
    assert NodesMessage.decode(told.encode()) == told
    listed = Listed(told.nodes)
    assert [config.key_id for config in decode_list(listed.offered())] == [3, 2]
    assert [listed.kem_of(c.key_id) for c in (*configs(0), *configs(2))] == [
        c.kem for c in (*configs(0), *configs(2))
    ]
    assert listed.kem_of(4) is None
