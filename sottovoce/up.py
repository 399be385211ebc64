"""`sottovoce up`: every party on this machine as a process of its own, ready for one prompt."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from rich.console import Console

from attestation.verifier.weakness import Weakness
from engine.config import EngineConfig
from engine.digest import model_digest
from engine.policy import engine_policy
from issuer.accounts import add_account
from issuer.keys import create_key_file
from sottovoce import party_words
from sottovoce.engine_config import EngineOptions, verification_here, worker_engine
from sottovoce.loading import LoadingBar
from sottovoce.local import (
    DIRECT,
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
    profile_text,
)
from sottovoce.models import ChosenModel, ModelNotFound, choose_model
from sottovoce.ports import require_free
from sottovoce.publish import (
    issuer_key_leaf,
    model_leaf,
    policy_leaf,
    publish,
    release_leaf,
)
from sottovoce.status import StatusLine
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
    direct: bool = False
    engine: EngineOptions = field(default_factory=EngineOptions)
    """Its draft is named by the next."""
    draft: str | None = None
    """A draft model, a folder or a name on the hub."""


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
        self._direct_key = f"sk-sottovoce-{secrets.token_urlsafe(32)}"
        self._model: ChosenModel
        self._adapter: Path | None = None
        self._engine = options.engine

    def run(self) -> int:
        """Start everything, say when it is ready, and stay until Ctrl-C; return the exit code."""
        interrupt_on_terminate()
        try:
            self.start()
            self._greet()
            with StatusLine(self._console, self.local.url(PROXY)) as status:
                while True:
                    self.supervisor.look()
                    status.look()
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
        self._require_ports()
        engine = self._choose()
        model, name = self._model.folder, self._model.name
        prepare(self.local, list_epoch_s=self._options.list_epoch_s)
        self._say("digesting the model")
        digest = model_digest(engine)
        account = prepare_issuer(self.local)
        self._say("starting witnesses, log, issuer and spent-token store")
        self._start_ground()
        self._say("publishing release, model, policy and issuer key in the log")
        publish_all(self.local, engine_policy(engine), name, digest)
        self._say(f"starting {self._options.workers} worker(s) with {name}, relay and proxy")
        self._start_path(model, name, account)
        self._wait_for_workers()
        self._say("sending a first prompt the whole way")
        first_prompt(self.local.url(PROXY), name)
        self._ready = True

    def stop(self) -> None:
        """End every party and remove everything they kept."""
        self.supervisor.stop()
        shutil.rmtree(self.local.folder)

    def _require_ports(self) -> None:
        local, direct = self.local, self._options.direct
        offsets = [PROXY, RELAY, ISSUER, LOG, *range(WORKER, WORKER + local.workers)]
        offsets += range(WITNESS, WITNESS + WITNESSES)
        offsets += range(DIRECT, DIRECT + local.workers) if direct else ()
        try:
            require_free(map(local.port, offsets))
        except OSError as error:
            advice = "stop what has it, or choose other ports with --port-base"
            raise NotReady(f"{error.strerror}; {advice}") from None

    def _choose(self) -> EngineConfig:
        """Find the models, and return the configuration of every worker's engine.

        Raises:
            NotReady: one is not to be had, or the options contradict each other.
        """
        options = self._options
        try:
            self._model = choose_model(options.model, options.adapter)
            self._adapter = self._model.adapter
            if options.draft is not None:
                self._engine = replace(self._engine, draft=choose_model(options.draft).folder)
            if self._engine.verification is None:
                mode = verification_here(self._model.folder, self._engine)
                self._engine = replace(self._engine, verification=mode)
            return worker_engine(self._model.folder, self._adapter, options=self._engine)
        except (ModelNotFound, ValueError) as error:
            raise NotReady(str(error)) from None

    def _start_ground(self) -> None:
        local, start = self.local, self.supervisor.start
        for index in range(WITNESSES):
            start(f"witness{index}", *party_words.witness(local, index))
        start("log", *party_words.log(local), "--min-nodes", str(local.workers))
        start("issuer", *party_words.issuer(local))
        start("spent", *party_words.spent(local))
        for url in (*local.witness_urls, local.url(LOG), local.url(ISSUER)):
            self._wait(f"{url}/health")

    def _start_path(self, model: Path, name: str, account: str) -> None:
        local, start = self.local, self.supervisor.start
        if self._options.direct:
            key_hash = hashlib.sha256(self._direct_key.encode()).hexdigest()
            local.direct_keys.write_text(key_hash + "\n")
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
                *self._engine.words(),
                *self._direct_words(index),
            )  # fmt: skip
        stock = ("--stock-ohttp",) if self._options.stock_ohttp else ()
        start("relay", *party_words.relay(local), *stock)
        local.account_file.touch(0o600)
        local.account_file.write_text(account + "\n")
        local.profile.write_text(profile_text(local, self._accepted()))
        start("proxy", *party_words.proxy(local, self._accepted()))

    def _accepted(self) -> list[Weakness]:
        """Return what the local client has to put up with."""
        unverified, plain = self._engine.verification == "none", self._engine.device != "cpu"
        return [
            Weakness.SIMULATED,
            *((Weakness.COMPUTE_UNVERIFIED,) if unverified else ()),
            *((Weakness.TRANSFERS_PLAIN,) if plain else ()),
        ]

    def _direct_words(self, index: int) -> tuple[str, ...]:
        if not self._options.direct:
            return ()
        port = str(self.local.port(DIRECT + index))
        return "--direct", port, "--direct-keys", str(self.local.direct_keys)

    def _wait_for_workers(self) -> None:
        """Wait until the proxy answers: it does once a worker that it may use is listed."""
        logs = [self.supervisor.parties[f"worker{i}"].log for i in range(self.local.workers)]
        with LoadingBar(self._console, logs) as bar:
            self._wait(f"{self.local.url(PROXY)}/health", bar.look)

    def _wait(self, url: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until `url` answers 200, watching that nobody dies meanwhile."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            self.supervisor.look()
            meanwhile()
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
        console.print(f"without the proxy: {self.local.profile}", highlight=False, soft_wrap=True)
        if self._options.direct:
            self._greet_directly(name)
        console.print(f"sottovoce is ready: {url}", markup=False, highlight=False)

    def _direct_pin(self) -> str:
        """Return the pin of the first worker, as the proxy verified it."""
        shown = httpx.get(f"{self.local.url(PROXY)}/verification", trust_env=False).json()
        health = httpx.get(f"{self.local.url(WORKER)}/health", trust_env=False).json()
        pins = [node["direct_pin"] for node in shown["nodes"] if node["node"] in health["nodes"]]
        return str(pins[-1])

    def _greet_directly(self, name: str) -> None:
        """Print how to ask a worker without proxy, relay and tokens, under the pin of its key."""
        address = f"127.0.0.1:{self.local.port(DIRECT)}"
        self._console.print(
            f"direct: curl -Nk --pinnedpubkey {self._direct_pin()} "
            f"https://{address}/v1/chat/completions -H 'content-type: application/json' "
            f"-H 'authorization: Bearer {self._direct_key}' "
            f'-d \'{{"model":"{name}","stream":true,'
            '"messages":[{"role":"user","content":"Who can read my prompt?"}]}\'',
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        self._console.print(
            "        The node sees who asks, and the pin holds until its keys change (an hour).",
            highlight=False,
        )


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
