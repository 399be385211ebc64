"""Unix socket pairs between the roles, and the passing of one over another (SCM_RIGHTS)."""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterable

from server.errors import PeerGone, ProtocolError

MAX_PACKET = 128 * 1024
"""Longest packet between roles: the largest is the launcher's list of issuer keys, a few KiB."""


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two joined stream ends (front and capsule: messages of any length)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Two joined ends that keep packets whole and in order: a short packet is a wrong packet."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_packet(sock: socket.socket, data: bytes, *sockets: socket.socket) -> None:
    """Send one packet, with the sockets in it. The caller still owns (and closes) its copies.

    Raises:
        PeerGone: nobody holds the other end.
    """
    rights = array.array("i", [passed.fileno() for passed in sockets])
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if sockets else []
    try:
        sock.sendmsg([data], ancillary)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise PeerGone from error


def receive_packet(
    sock: socket.socket, *, sockets: int = 0, family: int = -1
) -> tuple[bytes, list[socket.socket]]:
    """Receive one packet and at most `sockets` sockets with it.

    Who may not ask the kernel what they are, a confined capsule, says so: `family`, of streams.

    Raises:
        PeerGone: the other end was closed.
        ProtocolError: truncated, or with more sockets; those that came are closed.
        BlockingIOError: `sock` does not block and nothing has come.
    """
    space = socket.CMSG_SPACE(4 * (sockets + 1))
    try:
        data, ancillary, flags, _ = sock.recvmsg(MAX_PACKET, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError as error:
        raise PeerGone from error
    kind = (-1, -1, -1) if family == -1 else (family, socket.SOCK_STREAM, 0)
    received = [socket.socket(*kind, fileno=fd) for fd in _descriptors(ancillary)]
    if data and len(received) <= sockets and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        return data, received
    for stray in received:
        stray.close()
    if not data and not received:
        raise PeerGone
    raise ProtocolError("a packet is truncated or carries too many sockets")


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every file descriptor of this process above 2, but `keep`."""
    limit = os.sysconf("SC_OPEN_MAX")
    start = 3
    for descriptor in sorted(fd for fd in keep if fd >= start):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, limit)


def detach_standard_streams(*streams: int) -> None:
    """Point the standard streams named (0, 1, 2) at /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in streams:
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def peer_closed(sock: socket.socket) -> bool:
    """True when the other end was closed and nothing is left to read. Does not block."""
    with contextlib.suppress(BlockingIOError):
        try:
            return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except ConnectionResetError:
            return True
    return False
