"""A machine that boots the image: QEMU without KVM, OVMF with secure boot, a TPM of software.

Whoever runs the machine runs its TPM here, so what it says is worth that person's word: boot-only.
The key that signs the image is EDK II's "snakeoil" key, which everybody has.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.image.firmware import FirmwareError
from deploy.image.registers import Machine

SETTINGS = Path(__file__).parent / "machine.toml"
KEY = Path("/usr/share/ovmf/PkKek-1-snakeoil.key")
CERTIFICATE = Path("/usr/share/ovmf/PkKek-1-snakeoil.pem")
PASSPHRASE = "snakeoil"  # noqa: S105 - in the package of every Debian
TOOLS = ("qemu-system-x86_64", "swtpm", "sbsign", "openssl")

WORKER_PORT = 8084
"""Inside the machine (`start.py`)."""

HOST = "10.0.2.2"
"""The address under which QEMU's user network shows the machine around it."""


class BootError(Exception):
    """The machine ended, or did not get as far as it should have in time."""


def settings() -> Mapping[str, Any]:
    """Return the shape of the machine, and the files of its firmware."""
    return tomllib.loads(SETTINGS.read_text())


def reference() -> Machine:
    """Return the machine as it shows in the registers.

    Raises:
        FirmwareError: the firmware here is another than the one whose register 0 is known.
    """
    stated = settings()
    if hashlib.sha256(Path(stated["code"]).read_bytes()).hexdigest() != stated["code-sha256"]:
        raise FirmwareError("another firmware: boot once, read PCR 0 on the console, state both")
    return Machine(bytes.fromhex(stated["register-0"]), Path(stated["variables"]).read_bytes())


def sign(image: Path, out: Path) -> None:
    """Sign an image for a firmware that has the snakeoil key in its `db`."""
    plain = out.with_suffix(".key")
    command = ["openssl", "pkey", "-in", str(KEY), "-passin", f"pass:{PASSPHRASE}"]
    _run(*command, "-out", str(plain))
    paths = ["--cert", str(CERTIFICATE), "--output", str(out), str(image)]
    _run("sbsign", "--key", str(plain), *paths)


@dataclass
class Boot:
    """One machine and what it says.

    Attributes:
        folder: its own; the TPM's state in it outlives the machine.
        port: of the machine around it, that leads to the worker's.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def console(self) -> str:
        """Return what the machine wrote on its serial line so far."""
        log = self.folder / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def registers(self) -> dict[int, bytes]:
        """Return the registers as the image printed them at its start."""
        lines = [line.split() for line in self.console.splitlines() if line.startswith("PCR ")]
        return {int(index): bytes.fromhex(value) for _, index, value in lines}

    @contextmanager
    def tpm(self) -> Iterator[str]:
        """Run the machine's TPM without the machine; give the way to it, as tpm2-tss writes it."""
        way = self.folder / "tpm.sock"
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._tpm_state()}"]
        command += ["--server", f"type=unixio,path={way}", "--ctrl", f"type=unixio,path={way}.ctrl"]
        command += ["--flags", "not-need-init,startup-clear"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
            _wait_until(way.is_socket, 20, "the TPM does not listen")
            try:
                yield f"swtpm:path={way}"
            finally:
                process.terminate()
        way.unlink(missing_ok=True)

    @contextmanager
    def running(self, image: Path, root: Path, given: Mapping[str, bytes]) -> Iterator[Boot]:
        """Run the machine with a signed image, a root, and the files of its settings."""
        esp = self.folder / "esp/EFI/BOOT"
        esp.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, esp / "BOOTX64.EFI")
        disk = self._settings_disk(given)
        variables = self.folder / "variables.fd"
        shutil.copyfile(settings()["variables"], variables)
        control = self.folder / "control.sock"
        tpm = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._tpm_state()}"]
        tpm += ["--ctrl", f"type=unixio,path={control}", "--terminate"]
        with (
            (self.folder / "console.log").open("wb") as console,
            subprocess.Popen(tpm) as tpm_process,  # noqa: S603 - as above
        ):
            _wait_until(control.is_socket, 20, "the TPM does not listen")
            command = self._command(variables, control, root, disk)
            self.process = subprocess.Popen(command, stdout=console, stderr=console)  # noqa: S603 - QEMU
            try:
                yield self
            finally:
                self.process.kill()
                self.process.wait()
                tpm_process.terminate()

    def wait_for(self, text: str, seconds: float) -> None:
        """Wait until the machine has said something.

        Raises:
            BootError: it ended before, or the time is over.
        """
        until = time.monotonic() + seconds
        while text not in self.console:
            ended = self.process is None or self.process.poll() is not None
            if (ended and text not in self.console) or time.monotonic() > until:
                last = "\n".join(self.console.splitlines()[-12:])
                raise BootError(f"the machine did not say {text!r}:\n{last}")
            time.sleep(0.2)

    def _tpm_state(self) -> Path:
        state = self.folder / "tpm"
        state.mkdir(parents=True, exist_ok=True)
        return state

    def _settings_disk(self, given: Mapping[str, bytes]) -> Path:
        disk, files = self.folder / "settings.tar", self.folder / "settings"
        files.mkdir(exist_ok=True)
        with tarfile.open(disk, "w") as archive:
            for name, content in given.items():
                (files / name).write_bytes(content)
                archive.add(files / name, name)
        return disk

    def _command(self, variables: Path, control: Path, root: Path, disk: Path) -> list[str]:
        stated = settings()
        words = [
            "qemu-system-x86_64 -machine q35,smm=on -accel tcg,thread=multi -cpu max",
            f"-smp {stated['cpus']} -m {stated['memory']} -no-reboot -nodefaults -display none",
            "-serial stdio -global driver=cfi.pflash01,property=secure,value=on",
            f"-drive if=pflash,format=raw,unit=0,readonly=on,file={stated['code']}",
            f"-drive if=pflash,format=raw,unit=1,file={variables}",
            f"-chardev socket,id=tpm,path={control} -tpmdev emulator,id=tpm0,chardev=tpm",
            "-device tpm-crb,tpmdev=tpm0",
            f"-drive if=none,id=esp,format=raw,readonly=on,file=fat:{self.folder / 'esp'}",
            "-device virtio-blk-pci,drive=esp,bootindex=1,romfile=",
            f"-drive if=none,id=root,format=raw,readonly=on,file={root}",
            "-device virtio-blk-pci,drive=root,serial=sottovoce-root,romfile=",
            f"-drive if=none,id=settings,format=raw,readonly=on,file={disk}",
            "-device virtio-blk-pci,drive=settings,serial=sottovoce-settings,romfile=",
            f"-netdev user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:{WORKER_PORT}",
            "-device virtio-net-pci,netdev=net,romfile=",
        ]
        return " ".join(words).split()


def _wait_until(holds: Any, seconds: float, otherwise: str) -> None:  # noqa: ANN401
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise BootError(otherwise)
        time.sleep(0.02)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - as named above
