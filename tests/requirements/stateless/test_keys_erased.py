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


ENDING = """
import hashlib, os, sys, threading, time
from server import keeper
from server.keeper_messages import Binding, NewGeneration, Packet, encode_generation
from server.sockets import packet_pair, receive_packet, send_packet

drawn = 0

def draw(length):
    global drawn
    drawn += 1
    return hashlib.sha256(b"%d" % drawn).digest()[:length]

def launch(control):
    for order in (
        NewGeneration(1, 2, 3, direct=True).encode(),
        Binding(1, bytes([1]) * 32, bytes(32), "none", "none").encode(),
        encode_generation(Packet.OPEN, 1),
    ):
        send_packet(control, order)
        receive_packet(control)
    print(drawn, flush=True)
    if sys.stdin.readline() == "close\\n":
        control.close()

keeper.os.urandom, own = draw, os.urandom
pairs = [packet_pair() for _ in range(3)]
threading.Thread(target=launch, args=(pairs[0][0],), daemon=True).start()
keeper.run(*(near for _, near in pairs))
print("ended", flush=True)
time.sleep(60)
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


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_whatever_ends_a_keeper_erases_its_keys_first(end):
    """The end of its launcher, or a signal; only a kill leaves it to the kernel."""
    environment = {**FIXED, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-c", ENDING], env=environment, text=True, **pipes
    ) as keeper:
        keys = Search(needles(1, int(keeper.stdout.readline())))
        assert keys.process(keeper.pid), "a search that cannot find proves nothing"
        keeper.stdin.write(f"{end}\n")
        keeper.stdin.flush()
        if end == "terminate":
            keeper.terminate()
        assert keeper.stdout.readline() == "ended\n"
        assert keys.process(keeper.pid) == {}
        keeper.kill()
