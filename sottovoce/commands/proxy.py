"""`sottovoce proxy`: the local proxy that OpenAI clients talk to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from client.proxy import ProxyConfig
from client.proxy import serve as serve_proxy
from client.trust import load_policy, load_trust

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def serve(
    trust: Annotated[Path, typer.Option(help="trust.toml, obtained out of band.")],
    relay: Annotated[str, typer.Option(help="The relay's URL.")],
    issuer: Annotated[str, typer.Option(help="The issuer's URL.")],
    account_key: Annotated[Path, typer.Option(help="File holding the account key.")],
    state: Annotated[Path, typer.Option(help="Folder for the wallet and the last checkpoint.")],
    port: Annotated[int, typer.Option(help="Port.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    policy: Annotated[
        Path | None,
        typer.Option(
            help="What a node must be (TOML); else the strict default. See verify policy."
        ),
    ] = None,
    accept: Annotated[
        list[Weakness] | None,
        typer.Option(help="A weakness to accept in a node, beyond the strict default."),
    ] = None,
) -> None:
    """Serve OpenAI's API on loopback, the private path behind it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    serve_proxy(
        ProxyConfig(
            trust=load_trust(trust),
            policy=_policy(policy, frozenset(accept or ())),
            relay_url=relay,
            issuer_url=issuer,
            account_key=account_key.read_text().strip(),
            state=state,
            host=host,
            port=port,
        )
    )


def _policy(path: Path | None, accepted: frozenset[Weakness]) -> ClientPolicy:
    policy = ClientPolicy() if path is None else load_policy(path)
    return replace(policy, accepted_weaknesses=policy.accepted_weaknesses | accepted)
