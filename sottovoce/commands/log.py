"""`sottovoce log`: the transparency log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.trust import load_trust
from sottovoce.admission import admission
from transparency.app import LogConfig
from transparency.app import serve as serve_log
from transparency.cosigning import WitnessAddress

app = typer.Typer(add_completion=False, help=__doc__)


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
