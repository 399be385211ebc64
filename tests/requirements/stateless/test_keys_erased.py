"""Keys that are erased are gone from the keeper's memory; those that are not are found there."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from canary import Needles
from memory_search import Search, can_read_others

from server.environment import FIXED

if not can_read_others():
    pytest.skip("reading another process's memory needs root", allow_module_level=True)

ROOT = Path(__file__).parents[3]
KEEPER = """
import hashlib, sys, time
from server.keeper import CapsuleState, Keyring
from server.keeper_messages import (
    Binding, HandshakeRequest, NewGeneration, Packet, encode_generation,
)

def draw(length):
    global drawn
    drawn += 1
    return hashlib.sha256(b"%d" % drawn).digest()[:length]

def generation(number):
    keyring.control(NewGeneration(number, 2 * number, 2 * number + 1, direct=True).encode())
    keyring.control(Binding(number, bytes([number]) * 32, bytes(32), "none", "none").encode())
    keyring.control(encode_generation(Packet.OPEN, number))
    keyring.handshake(
        CapsuleState(direct=True), HandshakeRequest(bytes([number]) * 32, bytes(32)).encode()
    )

drawn, keyring = 0, Keyring(draw, time.time)
for number in (1, 2):
    generation(number)
    print(drawn, flush=True)
sys.stdin.readline()
keyring.control(encode_generation(Packet.ERASE, 1))
print("erased", flush=True)
sys.stdin.readline()
"""


def needles(first, last):
    found = Needles()
    for number in range(first, last + 1):
        found.secret(f"key {number}", hashlib.sha256(b"%d" % number).digest())
    return found.found


def test_an_erased_generation_is_nowhere_and_the_next_one_still_is():
    environment = {**FIXED, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-c", KEEPER], env=environment, text=True, **pipes
    ) as keeper:
        first, second = (int(keeper.stdout.readline()) for _ in range(2))
        old, new = Search(needles(1, first)), Search(needles(first + 1, second))
        held = old.process(keeper.pid), new.process(keeper.pid)
        assert all(held), "a search that cannot find proves nothing"
        keeper.stdin.write("\n")
        keeper.stdin.flush()
        assert keeper.stdout.readline() == "erased\n"
        assert old.process(keeper.pid) == {}
        assert new.process(keeper.pid).keys() == held[1].keys()
        keeper.stdin.write("\n")
