"""Fuzz one decoder: `python -m tests.fuzz.one NAME [libFuzzer options] CORPUS`."""

from __future__ import annotations

import sys

import atheris

PACKAGES = ["wire", "transparency", "attestation", "client", "server", "relay", "issuer"]


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - only now is it instrumented
    target = TARGETS[name]
    atheris.Setup(sys.argv, lambda data: target.accepts(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
