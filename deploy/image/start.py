"""What the image runs: one worker, of the model in the image, and nothing else.

Where it is and whom it asks is not the same on two machines, so it stands on a disk of its own, a
tar archive, that nobody measures. What stands there can stop this worker or send it to a log and an
issuer that nobody believes; it cannot choose what runs, which platform quotes or what is accepted:
that is in here, under dm-verity.

    settings.toml   address, gateway, log, issuer, spent (host:port)
    trust.toml      what the worker holds its own evidence against
    tpm-chain       the certificates of this TPM's attestation key
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import resource
import socket
import struct
import sys
import tarfile
import tomllib
from pathlib import Path

MODEL = "/usr/lib/python3/dist-packages/engine/tinychat/model"
NAME = "tinychat"
PORT = 8084
USER = 10001
RUN = Path("/run/sottovoce")
SPENT = RUN / "spent.sock"
TPM = Path("/dev/tpmrm0")
EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
REGISTERS = Path("/sys/class/tpm/tpm0/pcr-sha256")
MEASURED = (0, 2, 4, 7, 8, 9, 11, 12, 13, 14)
SERIAL = "sottovoce-settings"
MEMBERS = {
    "settings.toml": "settings.toml",
    "trust.toml": "trust.toml",
    "tpm-chain": "collateral/tpm-chain",
}
MAX_MEMBER = 1 << 16

SIOCADDRT, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x890B, 0x8914, 0x8916, 0x891C
IFF_UP, RTF_UP, RTF_GATEWAY = 1, 1, 2


def find_disk(serial: str) -> Path:
    """Return the device of the disk with this serial number.

    Raises:
        FileNotFoundError: there is none.
    """
    for disk in sorted(Path("/sys/block").glob("vd?")):
        if (disk / "serial").read_text().strip() == serial:
            return Path("/dev") / disk.name
    raise FileNotFoundError(serial)


def unpack_settings(disk: Path, out: Path) -> None:
    """Copy the three files from their disk; whatever else is there is left alone.

    Raises:
        ValueError: one is missing, too long or no plain file.
    """
    with tarfile.open(disk, "r:") as archive:
        found = {member.name: member for member in archive}
        for name, place in MEMBERS.items():
            member = found.get(name)
            if member is None or not member.isreg() or member.size > MAX_MEMBER:
                raise ValueError(f"the settings have no {name}")
            content = archive.extractfile(member)
            (out / place).parent.mkdir(exist_ok=True)
            (out / place).write_bytes(content.read() if content else b"")


def bring_up(address: str, gateway: str) -> None:
    """Give the loopback and the one network device their addresses, and set the way out."""
    devices = sorted({path.name for path in Path("/sys/class/net").iterdir()} - {"lo"})
    interface = ipaddress.IPv4Interface(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set_up(control, "lo", ipaddress.IPv4Interface("127.0.0.1/8"))
        _set_up(control, devices[0], interface)
        anywhere = _address(ipaddress.IPv4Address(0))
        way = _address(ipaddress.IPv4Address(gateway))
        route = struct.pack("<Q16s16s16sH54x", 0, anywhere, way, anywhere, RTF_UP | RTF_GATEWAY)
        fcntl.ioctl(control, SIOCADDRT, route)


def _set_up(control: socket.socket, device: str, interface: ipaddress.IPv4Interface) -> None:
    name = device.encode()
    for request, value in ((SIOCSIFADDR, interface.ip), (SIOCSIFNETMASK, interface.netmask)):
        fcntl.ioctl(control, request, struct.pack("<16s16s8x", name, _address(value)))
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("<16sH22x", name, IFF_UP))


def _address(address: ipaddress.IPv4Address) -> bytes:
    return struct.pack("<HH4s8x", socket.AF_INET, 0, address.packed)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(one: Streams, other: Streams) -> None:
    """Carry bytes both ways between two connections until both have ended."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    await asyncio.gather(pump(one[0], other[1]), pump(other[0], one[1]))
    one[1].close()
    other[1].close()


async def forward_spent(host: str, port: int) -> None:
    """Carry the socket of the spent-token store to where the store is."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join((reader, writer), await asyncio.open_connection(host, port))

    server = await asyncio.start_unix_server(carry, SPENT)
    await server.serve_forever()


def show_registers() -> None:
    """Print what was measured: anybody may know it."""
    for index in MEASURED:
        print(f"PCR {index}", (REGISTERS / str(index)).read_text().strip().lower(), flush=True)  # noqa: T201


def hand_over() -> None:
    """Let the worker's user quote, read the firmware's log and lock memory; then become it."""
    EVENT_LOG.chmod(0o444)
    os.chown(TPM, USER, USER)
    for path in (RUN, *RUN.rglob("*")):
        os.chown(path, USER, USER)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


def main() -> None:
    """Read the settings, start the worker in this process's place."""
    show_registers()
    RUN.mkdir(mode=0o700)
    unpack_settings(find_disk(SERIAL), RUN)
    settings = tomllib.loads((RUN / "settings.toml").read_text())
    bring_up(settings["address"], settings["gateway"])
    hand_over()
    host, _, port = settings["spent"].rpartition(":")
    if os.fork() == 0:
        asyncio.run(forward_spent(host, int(port)))
    options = {
        "--model": MODEL,
        "--name": NAME,
        "--platform": "tpm",
        "--collateral": str(RUN / "collateral"),
        "--verification": "none",
        "--trust": str(RUN / "trust.toml"),
        "--log": settings["log"],
        "--issuer": settings["issuer"],
        "--spent": str(SPENT),
        "--host": "0.0.0.0",  # noqa: S104 - the machine has no other port open
        "--port": str(PORT),
    }
    words = [word for option in options.items() for word in option]
    accepted = ["--accept", "boot-only", "--accept", "compute-unverified"]
    command = [sys.executable, "-P", "-m", "sottovoce", "worker", *words, *accepted]
    os.execve(sys.executable, command, dict(os.environ))  # noqa: S606 - the worker, in its place


if __name__ == "__main__":
    main()
