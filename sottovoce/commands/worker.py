"""`sottovoce worker`: one attested worker node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attestation.attester.platform import AUTO, HARDWARE
from attestation.simulated_quote import PLATFORM as SIMULATED
from attestation.verifier.policy import admission_policy
from attestation.verifier.weakness import Weakness
from client.trust import load_trust
from server.config import OwnAppraisal, WorkerConfig
from server.launcher import PARTS
from server.launcher import run as run_worker
from sottovoce.engine_config import worker_engine

app = typer.Typer(add_completion=False, help=__doc__)

PLATFORMS = (AUTO, *HARDWARE, SIMULATED)
KEY_IDS = 16
"""One-byte OHTTP key ids of one worker: sixteen workers share the space of one relay."""


@app.command()
def serve(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="Folder of a Hugging Face model.")],
    name: Annotated[str, typer.Option(help="The model's public name.")],
    trust: Annotated[Path, typer.Option(help="trust.toml.")],
    log: Annotated[str, typer.Option(help="The log's URL.")],
    issuer: Annotated[str, typer.Option(help="The issuer's URL.")],
    spent: Annotated[Path, typer.Option(help="Unix socket of the spent-token store.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    platform: Annotated[
        str, typer.Option(help=f"The platform that quotes: {', '.join(PLATFORMS)}.")
    ] = AUTO,
    platform_key: Annotated[
        Path | None, typer.Option(help="Seed file; only of the platform simulated.")
    ] = None,
    platform_endorsement: Annotated[
        Path | None, typer.Option(help="azure-vtpm: the VCEK (DER) or TDX quote, from Azure.")
    ] = None,
    collateral: Annotated[
        Path | None, typer.Option(help="Folder of fetched collateral, a file for each part.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Folder of a LoRA adapter, merged into the model.")
    ] = None,
    index: Annotated[int, typer.Option(min=0, max=15, help="Chooses the OHTTP key ids.")] = 0,
    event_tick_ms: Annotated[
        int, typer.Option(min=0, help="Milliseconds between the events of a stream; 0: at once.")
    ] = 0,
) -> None:
    """Attest, register in the log, and serve until SIGTERM."""
    if platform not in PLATFORMS or (platform == SIMULATED) != (platform_key is not None):
        raise typer.BadParameter(
            f"one of {', '.join(PLATFORMS)}; --platform-key goes with simulated, and only with it",
            param_hint="--platform",
        )
    believed = load_trust(trust)
    accepted = frozenset(Weakness) if believed.simulated else frozenset[Weakness]()
    run_worker(
        WorkerConfig(
            model=model,
            model_name=name,
            engine=worker_engine(model, adapter),
            host=host,
            port=port,
            log_url=log,
            issuer_url=issuer,
            issuer_name=believed.issuer_name,
            spent_socket=spent,
            platform=platform,
            platform_seed=platform_key,
            platform_endorsement=platform_endorsement,
            collateral=collateral,
            # What the log will ask of it, as far as a worker can know that (`sottovoce.admission`).
            appraisal=OwnAppraisal(admission_policy(accepted), believed.roots, believed.log_origin),
            list_epoch_s=believed.list_epoch_s,
            first_key_id=KEY_IDS * index,
            key_ids=KEY_IDS,
            event_tick_ms=event_tick_ms,
        ),
        context.obj or PARTS,  # a benchmark brings parts of its own
    )
