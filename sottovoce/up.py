"""`sottovoce up`: every party on this machine as a process of its own, ready for one prompt."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from engine.digest import model_digest
from engine.policy import engine_policy
from issuer.accounts import add_account
from issuer.keys import create_key_file
from sottovoce.engine_config import worker_engine
from sottovoce.local import (
    ISSUER,
    ISSUER_NAME,
    LOG,
    PROXY,
    RELAY,
    WITNESS,
    WITNESSES,
    WORKER,
    Local,
    prepare,
    witness_name,
)
from sottovoce.models import ChosenModel, ModelNotFound, choose_model
from sottovoce.publish import (
    issuer_key_leaf,
    model_leaf,
    policy_leaf,
    publish,
    release_leaf,
)
from sottovoce.supervisor import Party, Supervisor, interrupt_on_terminate
from wire.token_life import KeyPeriod

READY_TIMEOUT_S = 240.0
"""How long the parties may take to get ready; a large model loads for minutes."""

ISSUER_KEY_LIFETIME_S = 90 * 86_400
"""How long the local issuer's one key is in use: longer than any `up`."""

LOCAL_QUOTA = 1_000_000
"""Tokens of the local account: one person pays himself."""


@dataclass(frozen=True)
class UpOptions:
    """What a person may choose."""

    port_base: int
    workers: int
    model: str | None
    """A folder or a name on the hub; None for the model in the box."""
    list_epoch_s: int
    stock_ohttp: bool = False
    adapter: str | None = None
    """A LoRA adapter of the model, likewise."""


class NotReady(Exception):
    """A party died or stayed silent while starting."""


class Up:
    """The start, the life and the end of all parties."""

    def __init__(self, options: UpOptions, console: Console) -> None:
        self._options = options
        self._console = console
        folder = Path(tempfile.mkdtemp(prefix="sottovoce-"))
        self.local = Local(folder, options.port_base, options.workers)
        self.supervisor = Supervisor(folder, self._on_death)
        self._ready = False
        self._model: ChosenModel
        self._adapter: Path | None = None

    def run(self) -> int:
        """Start everything, say when it is ready, and stay until Ctrl-C; return the exit code."""
        interrupt_on_terminate()
        try:
            self.start()
            self._greet()
            while True:
                self.supervisor.look()
                time.sleep(0.25)
        except NotReady as error:
            self._console.print(f"[red]sottovoce could not start:[/red] {error}")
            return 1
        except KeyboardInterrupt:
            self._console.print("\nstopping every party ...")
            return 0
        finally:
            self.stop()

    def start(self) -> None:
        """Start every party and send a first prompt the whole way.

        Raises:
            NotReady: a party died or stayed silent.
        """
        try:
            self._model = choose_model(self._options.model, self._options.adapter)
        except ModelNotFound as error:
            raise NotReady(str(error)) from None
        model, name = self._model.folder, self._model.name
        self._adapter = self._model.adapter
        prepare(self.local, list_epoch_s=self._options.list_epoch_s)
        self._say("digesting the model")
        engine = worker_engine(model, self._adapter)
        digest = model_digest(engine)
        account = prepare_issuer(self.local)
        self._say("starting witnesses, log, issuer and spent-token store")
        self._start_ground()
        self._say("publishing release, model, policy and issuer key in the log")
        publish_all(self.local, engine_policy(engine), name, digest)
        self._say(f"starting {self._options.workers} worker(s) with {name}, relay and proxy")
        self._start_path(model, name, account)
        self._wait(f"{self.local.url(PROXY)}/health")
        self._say("sending a first prompt the whole way")
        first_prompt(self.local.url(PROXY), name)
        self._ready = True

    def stop(self) -> None:
        """End every party and remove everything they kept."""
        self.supervisor.stop()
        shutil.rmtree(self.local.folder)

    def _start_ground(self) -> None:
        local, start = self.local, self.supervisor.start
        for index in range(WITNESSES):
            start(
                f"witness{index}", "witness",
                "--name", witness_name(index),
                "--key", str(local.seed(f"witness{index}")),
                "--state", str(local.directory(f"witness{index}") / "state.json"),
                "--trust", str(local.trust),
                "--port", str(local.port(WITNESS + index)),
            )  # fmt: skip
        start(
            "log", "log", "serve",
            "--directory", str(local.directory("log")),
            "--trust", str(local.trust),
            "--key", str(local.seed("log")),
            "--list-key", str(local.seed("list")),
            *(word for url in local.witness_urls for word in ("--witness", url)),
            "--min-nodes", str(local.workers),
            "--port", str(local.port(LOG)),
        )  # fmt: skip
        start(
            "issuer", "issuer", "serve",
            "--database", local.database("issuer"),
            "--key", str(local.issuer_key),
            "--name", ISSUER_NAME,
            "--spent", str(local.spent_socket),
            "--port", str(local.port(ISSUER)),
        )  # fmt: skip
        start(
            "spent", "spent",
            "--database", local.database("spent"),
            "--socket", str(local.spent_socket),
        )  # fmt: skip
        for url in (*local.witness_urls, local.url(LOG), local.url(ISSUER)):
            self._wait(f"{url}/health")

    def _start_path(self, model: Path, name: str, account: str) -> None:
        local, start = self.local, self.supervisor.start
        for index in range(local.workers):
            start(
                f"worker{index}", "worker",
                "--model", str(model),
                "--name", name,
                *(("--adapter", str(self._adapter)) if self._adapter else ()),
                "--trust", str(local.trust),
                "--log", local.url(LOG),
                "--issuer", local.url(ISSUER),
                "--spent", str(local.spent_socket),
                "--platform", "simulated",
                "--platform-key", str(local.seed("platform")),
                "--index", str(index),
                "--port", str(local.port(WORKER + index)),
            )  # fmt: skip
        start(
            "relay", "relay",
            *(word for url in local.worker_urls for word in ("--worker", url)),
            "--log", local.url(LOG),
            "--port", str(local.port(RELAY)),
            *(("--stock-ohttp",) if self._options.stock_ohttp else ()),
        )  # fmt: skip
        local.account_file.touch(0o600)
        local.account_file.write_text(account + "\n")
        start(
            "proxy", "proxy",
            "--trust", str(local.trust),
            "--relay", local.url(RELAY),
            "--issuer", local.url(ISSUER),
            "--account-key", str(local.account_file),
            "--state", str(local.directory("proxy")),
            "--accept", "simulated",
            "--accept", "compute-unverified",
            "--port", str(local.port(PROXY)),
        )  # fmt: skip

    def _wait(self, url: str) -> None:
        """Wait until `url` answers 200, watching that nobody dies meanwhile."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            self.supervisor.look()
            try:
                if httpx.get(url, timeout=2.0, trust_env=False).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass  # not there yet
            time.sleep(0.1)
        raise NotReady(f"{url} did not get ready within {READY_TIMEOUT_S:.0f} s")

    def _on_death(self, party: Party, code: int) -> None:
        words = party.last_words()
        if not self._ready:
            raise NotReady(f"{party.name} ended with code {code}\n{words}")
        self._console.print(
            f"[yellow]{party.name} ended with code {code}; starting it again[/yellow]\n{words}"
        )

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]sottovoce:[/dim] {text} ...", highlight=False)

    def _greet(self) -> None:
        url = f"{self.local.url(PROXY)}/v1"
        name, console = self._model.name, self._console
        console.print(f"model: {name}, on {self._options.workers} worker(s)", highlight=False)
        console.print(
            "[bold red]WARNING: platform SIMULATED.[/bold red] Every party runs here, under one "
            "person's keys, on ordinary hardware. This shows the path; it hides nothing from "
            "whoever owns this machine."
        )
        console.print(
            f"try:  curl -N {url}/chat/completions -H 'content-type: application/json' "
            f'-d \'{{"model":"{name}","stream":true,'
            '"messages":[{"role":"user","content":"Who can read my prompt?"}]}\'',
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        console.print(
            f"verdicts: {self.local.url(PROXY)}/verification    (Ctrl-C stops every party)",
            highlight=False,
        )
        console.print(f"sottovoce is ready: {url}", markup=False, highlight=False)


def prepare_issuer(local: Local) -> str:
    """Make the issuer's key and one account; return the account key."""
    now = int(time.time())
    create_key_file(local.issuer_key, KeyPeriod(now, now + ISSUER_KEY_LIFETIME_S))
    return add_account(local.database("issuer"), LOCAL_QUOTA)


def publish_all(local: Local, policy: bytes, name: str, digest: bytes) -> None:
    """Put the local release, model, policy and issuer key into the log."""
    release, log = local.seed("release"), local.url(LOG)
    publish(log, release, release_leaf())
    publish(log, release, model_leaf(name, digest))
    publish(log, release, policy_leaf(policy))
    publish(log, local.seed("issuer"), issuer_key_leaf(ISSUER_NAME, local.issuer_key))


def first_prompt(proxy_url: str, model: str) -> None:
    """Complete one token the whole way: only then is it true that a completion would succeed.

    Raises:
        NotReady: it did not succeed.
    """
    request = {"model": model, "prompt": "Hello", "max_tokens": 1}
    answer = httpx.post(
        f"{proxy_url}/v1/completions", json=request, timeout=READY_TIMEOUT_S, trust_env=False
    )
    if answer.status_code != httpx.codes.OK:
        raise NotReady(f"the first prompt was answered {answer.status_code}: {answer.text}")
