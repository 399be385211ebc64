"""Boots the image and asks it something: `python -m deploy.image.boot --image build/image`.

Everything around the worker runs here (`parties`); the worker runs inside, quotes the machine's TPM
over its key document and is listed by the log, because the measurement that the build predicted is
in there. Then a client appraises it and sends a prompt.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from attestation.attester.tpm import load_stack, open_device
from attestation.verifier.tpm.keys import PublicKey, parse_public
from deploy.image import build, machine, registers
from deploy.image.authority import Authority
from deploy.image.parties import (
    parties,
    publish_release,
    start_path,
    wait_for_health,
    worker_settings,
    write_trust,
)
from deploy.image.start import NAME
from sottovoce.local import PROXY, WORKER, Local
from sottovoce.supervisor import Supervisor, interrupt_on_terminate

QUESTION = "Who can read my prompt?"
READY = '"event":"WorkerReady"'
BOOT_S, READY_S, ANSWER_S = 180.0, 900.0, 300.0


@dataclass(frozen=True)
class Stage:
    """A log that holds the release, and a machine that has not been switched on."""

    local: Local
    supervisor: Supervisor
    boot: machine.Boot
    chain: bytes

    @contextmanager
    def running(
        self, image: Path, root: Path, *, log_port: int | None = None
    ) -> Iterator[machine.Boot]:
        """Sign an image and run the machine with it.

        Args:
            image: a unified kernel image.
            root: the disk with its root.
            log_port: of this machine, where the worker shall look for the log, if not at the log.
        """
        signed = self.boot.folder / "signed.efi"
        machine.sign(image, signed)
        given = {
            "settings.toml": worker_settings(self.local, machine.HOST, log_port),
            "trust.toml": self.local.trust.read_bytes(),
            "tpm-chain": self.chain,
        }
        with self.boot.running(signed, root, given) as running:
            yield running


@contextmanager
def stage(folder: Path, measurement: bytes, *, port_base: int) -> Iterator[Stage]:
    """Start all that is around the machine, with this measurement in the log as a release."""
    local = Local(folder, port_base, 1)
    boot = machine.Boot(local.directory("machine"), local.port(WORKER))
    authority = Authority()
    write_trust(local, authority.fingerprint)
    with boot.tpm() as tcti:
        chain = authority.chain(_attestation_key(tcti))
    with parties(local) as supervisor:
        publish_release(local, measurement, build.SOURCE)
        yield Stage(local, supervisor, boot, chain)


def ask(local: Local, question: str) -> dict[str, Any]:
    """Send a prompt through the proxy; return the completion.

    Raises:
        httpx.HTTPError: it was not answered.
    """
    request = {"model": NAME, "messages": [{"role": "user", "content": question}], "max_tokens": 24}
    url = f"{local.url(PROXY)}/v1/chat/completions"
    answer = httpx.post(url, json=request, timeout=ANSWER_S, trust_env=False).raise_for_status()
    completion: dict[str, Any] = answer.json()
    return completion


def shown(completion: dict[str, Any]) -> str:
    """Return an answer and what was verified of it, for a person."""
    steps = completion["attestation"]["verification"]
    lines = [f"{step['outcome']:4}  {step['step']}: {step['reason']}" for step in steps]
    return "\n".join([*lines, QUESTION, completion["choices"][0]["message"]["content"]])


def main() -> None:
    """Boot, appraise, ask, and stay until Ctrl-C if told to."""
    interrupt_on_terminate()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image", type=Path, default=build.SOURCE / "build" / "image")
    parser.add_argument("--port-base", type=int, default=9080)
    parser.add_argument("--stay", action="store_true", help="until Ctrl-C")
    arguments = parser.parse_args()
    image, root = arguments.image / "image.efi", arguments.image / "root.img"
    measurement = registers.measurement(image.read_bytes(), machine.reference())
    with (
        tempfile.TemporaryDirectory(prefix="sottovoce-boot-") as name,
        stage(Path(name), measurement, port_base=arguments.port_base) as ready,
        ready.running(image, root) as boot,
    ):
        print(f"release tpm={measurement.hex()} is in the log; booting")  # noqa: T201
        boot.wait_for("PCR 14", BOOT_S)
        print("booted; the worker loads its model")  # noqa: T201
        boot.wait_for(READY, READY_S)
        start_path(ready.supervisor, ready.local)
        wait_for_health(ready.supervisor, ready.local.url(PROXY), ANSWER_S)
        print(shown(ask(ready.local, QUESTION)))  # noqa: T201
        while arguments.stay:
            time.sleep(1)


def _attestation_key(tcti: str) -> PublicKey:
    """Return the key that the attester in the machine will quote with."""
    with open_device(load_stack(), tcti) as device, device.attestation_key(None) as key:
        return parse_public(device.public(key)).key


if __name__ == "__main__":
    main()
