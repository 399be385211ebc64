"""`sottovoce worker`: one attested worker node."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attestation.attester.platform import AUTO, HARDWARE
from attestation.simulated_quote import PLATFORM as SIMULATED
from attestation.verifier.policy import admission_policy
from attestation.verifier.weakness import Weakness
from client.trust import load_trust
from engine.parallel.torchrun import Torchrun
from server.config import UPSTREAM_KINDS, DirectPort, OwnAppraisal, Upstream, WorkerConfig
from server.launcher import PARTS, run_rank
from server.launcher import run as run_worker
from sottovoce.admission import accepted_weaknesses
from sottovoce.engine_config import (
    Device,
    EngineOptions,
    KvOffload,
    KvTruncation,
    Speculation,
    Verification,
    Weights,
    worker_engine,
)

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
    tensor_parallel: Annotated[
        int, typer.Option(min=1, help="Processes (or GPUs) that divide every layer.")
    ] = 1,
    device: Device = "cpu",
    weights: Weights = None,
    speculation: Speculation = "none",
    draft: Annotated[
        Path | None, typer.Option(help="With --speculation draft: folder of the draft model.")
    ] = None,
    kv_truncation: KvTruncation = False,
    kv_offload: KvOffload = 0,
    verification: Verification = None,
    upstream: Annotated[
        str | None,
        typer.Option(help="Another engine computes: http://127.0.0.1:PORT or unix:PATH."),
    ] = None,
    upstream_kind: Annotated[
        str | None, typer.Option(help=f"With --upstream: {', '.join(UPSTREAM_KINDS)}.")
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option(help="With --upstream: its name for the model; --name if not.")
    ] = None,
    direct: Annotated[
        int | None, typer.Option(help="Also serve plain HTTPS clients, on this port.")
    ] = None,
    direct_keys: Annotated[
        Path | None,
        typer.Option(help="With --direct: file with the SHA-256 of an API key on each line."),
    ] = None,
    index: Annotated[int, typer.Option(min=0, max=15, help="Chooses the OHTTP key ids.")] = 0,
    event_tick_ms: Annotated[
        int, typer.Option(min=0, help="Milliseconds between the events of a stream; 0: at once.")
    ] = 0,
    accept: Annotated[
        list[Weakness] | None,
        typer.Option(help="A weakness of its own that the log it registers in accepts."),
    ] = None,
) -> None:
    """Attest, register in the log, and serve until SIGTERM."""
    if platform not in PLATFORMS or (platform == SIMULATED) != (platform_key is not None):
        raise typer.BadParameter(
            f"one of {', '.join(PLATFORMS)}; --platform-key goes with simulated, and only with it",
            param_hint="--platform",
        )
    direct_port = _direct_port(direct, direct_keys)
    other_engine = _upstream(upstream, upstream_kind, upstream_model or name)
    options = EngineOptions(
        device, weights, speculation, draft, kv_truncation, verification, kv_offload
    )
    ours = tensor_parallel > 1 or adapter is not None or not options.only_device
    if other_engine is not None and ours:
        raise typer.BadParameter(
            "another engine divides, adapts and computes its model by itself",
            param_hint="--upstream",
        )
    if other_engine is not None:
        options = replace(options, verification="none")
    try:
        engine = worker_engine(model, adapter, tensor_parallel, options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    believed = load_trust(trust)
    accepted = accepted_weaknesses(believed, accept)
    place = Torchrun.find(os.environ)
    run = run_worker if place is None or place.rank == 0 else run_rank
    run(
        WorkerConfig(
            model=model,
            model_name=name,
            engine=engine,
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
            direct=direct_port,
            upstream=other_engine,
        ),
        context.obj or PARTS,  # a benchmark brings parts of its own
    )


def _upstream(url: str | None, kind: str | None, model: str) -> Upstream | None:
    if (url is None) != (kind is None) or (kind is not None and kind not in UPSTREAM_KINDS):
        raise typer.BadParameter(
            f"goes with --upstream-kind, one of {', '.join(UPSTREAM_KINDS)}",
            param_hint="--upstream",
        )
    return None if url is None or kind is None else Upstream(url, kind, model)


def _direct_port(port: int | None, keys: Path | None) -> DirectPort | None:
    if (port is None) != (keys is None):
        raise typer.BadParameter("goes with --direct-keys, and only with it", param_hint="--direct")
    if port is None or keys is None:
        return None
    try:
        return DirectPort(port, tuple(bytes.fromhex(line) for line in keys.read_text().split()))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            "a file with 64 hexadecimal digits on each line", param_hint="--direct-keys"
        ) from error
