"""The commands that start the parties of one machine, word by word."""

from __future__ import annotations

from collections.abc import Iterable

from sottovoce.local import ISSUER, ISSUER_NAME, LOG, PROXY, RELAY, WITNESS, Local, witness_name

Words = tuple[str, ...]


def accepting(weaknesses: Iterable[str]) -> Words:
    """Return the options that accept weaknesses by name."""
    return tuple(word for weakness in weaknesses for word in ("--accept", weakness))


def witness(local: Local, index: int) -> Words:
    """Start a witness."""
    return (
        "witness",
        "--name", witness_name(index),
        "--key", str(local.seed(f"witness{index}")),
        "--state", str(local.directory(f"witness{index}") / "state.json"),
        "--trust", str(local.trust),
        "--port", str(local.port(WITNESS + index)),
    )  # fmt: skip


def log(local: Local) -> Words:
    """Start the log."""
    return (
        "log", "serve",
        "--directory", str(local.directory("log")),
        "--trust", str(local.trust),
        "--key", str(local.seed("log")),
        "--list-key", str(local.seed("list")),
        *(word for url in local.witness_urls for word in ("--witness", url)),
        "--port", str(local.port(LOG)),
    )  # fmt: skip


def issuer(local: Local) -> Words:
    """Start the issuer."""
    return (
        "issuer", "serve",
        "--database", local.database("issuer"),
        "--key", str(local.issuer_key),
        "--name", ISSUER_NAME,
        "--spent", str(local.spent_socket),
        "--port", str(local.port(ISSUER)),
    )  # fmt: skip


def spent(local: Local) -> Words:
    """Start the spent-token store."""
    return (
        "spent",
        "--database", local.database("spent"),
        "--socket", str(local.spent_socket),
    )  # fmt: skip


def relay(local: Local) -> Words:
    """Start the relay, before all workers."""
    return (
        "relay",
        *(word for url in local.worker_urls for word in ("--worker", url)),
        "--log", local.url(LOG),
        "--port", str(local.port(RELAY)),
    )  # fmt: skip


def proxy(local: Local, accepted: Iterable[str]) -> Words:
    """Start the client's proxy, which accepts weaknesses by name."""
    return (
        "proxy",
        "--trust", str(local.trust),
        "--relay", local.url(RELAY),
        "--issuer", local.url(ISSUER),
        "--account-key", str(local.account_file),
        "--state", str(local.directory("proxy")),
        *accepting(accepted),
        "--port", str(local.port(PROXY)),
    )  # fmt: skip
