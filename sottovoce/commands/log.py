"""`sottovoce log`: the transparency log, and the leaves that people publish in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.trust import load_trust
from engine.digest import model_digest
from engine.policy import engine_policy
from sottovoce.admission import admission
from sottovoce.engine_config import worker_engine
from sottovoce.publish import (
    issuer_key_leaf,
    model_leaf,
    policy_leaf,
    publish,
    release_leaf,
)
from transparency.app import LogConfig
from transparency.app import serve as serve_log
from transparency.cosigning import WitnessAddress
from transparency.leaf import Body

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
publishing = typer.Typer(no_args_is_help=True, help="Sign a leaf and add it to the log.")
app.add_typer(publishing, name="publish")

Url = Annotated[str, typer.Option("--log", help="The log's URL.")]
RoleKey = Annotated[Path, typer.Option("--key", help="Seed file of the role's key.")]


@app.command()
def serve(
    directory: Annotated[Path, typer.Option(help="The log's own folder.")],
    trust: Annotated[Path, typer.Option(help="trust.toml: origin, roles, witnesses.")],
    key: Annotated[Path, typer.Option(help="Seed file of the log's key.")],
    list_key: Annotated[Path, typer.Option(help="Seed file of the node-list role.")],
    witness: Annotated[list[str], typer.Option(help="Witness URLs, in the trust file's order.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    min_nodes: Annotated[int, typer.Option(help="Hold the first list back for so many.")] = 1,
) -> None:
    """Serve the log."""
    believed = load_trust(trust)
    policy = believed.log_policy
    if len(witness) != len(policy.witness_vkeys):
        raise typer.BadParameter("as many --witness as the trust file has witnesses")
    serve_log(
        LogConfig(
            directory=directory,
            origin=believed.log_origin,
            seed_file=key,
            list_seed_file=list_key,
            roles=believed.roles,
            witnesses=tuple(map(WitnessAddress, witness, policy.witness_vkeys)),
            quorum=policy.quorum,
            admit=admission(believed),
            epoch_seconds=believed.list_epoch_s,
            min_nodes=min_nodes,
            host=host,
            port=port,
            max_cosignature_age_s=policy.max_cosignature_age_s,
        )
    )


@publishing.command("release")
def publish_release(log: Url, key: RoleKey) -> None:
    """Publish the code installed here, as a simulated node measures it."""
    _publish(log, key, release_leaf())


@publishing.command("model")
def publish_model(
    log: Url,
    key: RoleKey,
    folder: Annotated[Path, typer.Argument(help="The model's folder.")],
    name: Annotated[str, typer.Option(help="The model's public name.")],
    adapter: Annotated[
        Path | None, typer.Option(help="Folder of a LoRA adapter, merged into the model.")
    ] = None,
) -> None:
    """Publish a model's name and digest."""
    _publish(log, key, model_leaf(name, model_digest(worker_engine(folder, adapter))))


@publishing.command("policy")
def publish_policy(
    log: Url,
    key: RoleKey,
    folder: Annotated[Path, typer.Argument(help="The folder of the model to be served.")],
) -> None:
    """Publish the engine policy of a worker that serves this model."""
    _publish(log, key, policy_leaf(engine_policy(worker_engine(folder))))


@publishing.command("issuer-key")
def publish_issuer_key(
    log: Url,
    key: RoleKey,
    pem: Annotated[Path, typer.Argument(help="The issuer's token key (PEM).")],
    name: Annotated[str, typer.Option(help="The issuer's name.")],
) -> None:
    """Publish an issuer's token key and the fleet's challenge."""
    _publish(log, key, issuer_key_leaf(name, pem))


def _publish(log: str, key: Path, body: Body) -> None:
    typer.echo(f"leaf {publish(log, key, body).index}: {body.type}")
