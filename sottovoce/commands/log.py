"""`sottovoce log`: the log, the leaves that people publish in it, and its monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attestation.verifier.weakness import Weakness
from client.trust import load_trust
from engine.digest import model_digest
from engine.policy import engine_policy
from server.config import UPSTREAM_KINDS
from server.upstream_policy import upstream_digest, upstream_policy
from sottovoce.admission import admission
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
from sottovoce.publish import (
    issuer_key_leaf,
    model_leaf,
    policy_leaf,
    publish,
    release_leaf,
    rotation_leaf,
    withdrawal_leaf,
)
from transparency.app import LogConfig
from transparency.app import serve as serve_log
from transparency.cosigning import WitnessAddress
from transparency.leaf import Body, Role
from transparency.policy_text import encode_policy

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
publishing = typer.Typer(no_args_is_help=True, help="Sign a leaf and add it to the log.")
app.add_typer(publishing, name="publish")


def _known_kind(kind: str | None) -> str | None:
    if kind is not None and kind not in UPSTREAM_KINDS:
        raise typer.BadParameter(f"one of {', '.join(UPSTREAM_KINDS)}")
    return kind


Url = Annotated[str, typer.Option("--log", help="The log's URL.")]
UpstreamKind = Annotated[
    str | None,
    typer.Option(
        callback=_known_kind,
        help=f"Of a worker with --upstream: {', '.join(UPSTREAM_KINDS)}.",
    ),
]
RoleKey = Annotated[Path, typer.Option("--key", help="Seed file of the role's key.")]


@app.command()
def serve(
    directory: Annotated[Path, typer.Option(help="The log's own folder.")],
    trust: Annotated[Path, typer.Option(help="trust.toml: origin, roles, witnesses.")],
    key: Annotated[Path, typer.Option(help="Seed file of the log's key.")],
    list_key: Annotated[
        list[Path], typer.Option(help="Seed file of the node-list role; give the next one too.")
    ],
    witness: Annotated[list[str], typer.Option(help="Witness URLs, in the trust file's order.")],
    port: Annotated[int, typer.Option(help="Port.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    min_nodes: Annotated[int, typer.Option(help="Hold the first list back for so many.")] = 1,
    accept: Annotated[
        list[Weakness] | None,
        typer.Option(help="A weakness to accept in a node, beyond the strict default."),
    ] = None,
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
            list_seed_files=tuple(list_key),
            roles=believed.roles,
            witnesses=tuple(map(WitnessAddress, witness, policy.witness_vkeys)),
            quorum=policy.quorum,
            admit=admission(believed, accept),
            epoch_seconds=believed.list_epoch_s,
            min_nodes=min_nodes,
            host=host,
            port=port,
            max_cosignature_age_s=policy.max_cosignature_age_s,
        )
    )


@app.command()
def audit(
    log: Annotated[
        str, typer.Option(help="Where the log's files are: the log, a relay, a mirror.")
    ],
    trust: Annotated[Path, typer.Option(help="trust.toml: keys of log, witnesses and roles.")],
    state: Annotated[Path, typer.Option(help="The monitor's own folder, kept between runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Read the whole log, judge every leaf, compare it with the last audit. Exit 1 on a finding.

    What was found is written to the state folder as proof-*.json, to be published.
    """
    from sottovoce.audit import run_audit  # noqa: PLC0415 - only this command needs it

    raise typer.Exit(run_audit(log, load_trust(trust), state, as_json=as_json))


@app.command("check-proof")
def check_proof(
    proof: Annotated[Path, typer.Argument(help="A proof-*.json that somebody published.")],
    trust: Annotated[Path, typer.Option(help="trust.toml, for the log's keys.")],
    list_key: Annotated[
        list[str] | None, typer.Option(help="A later key of the list role, in hexadecimal.")
    ] = None,
) -> None:
    """Say what a published proof of misbehaviour proves by itself. Exit 1 if nothing."""
    from sottovoce.audit import run_check  # noqa: PLC0415 - likewise

    later = frozenset(map(bytes.fromhex, list_key or ()))
    raise typer.Exit(run_check(proof, load_trust(trust), later))


@app.command()
def policy(
    trust: Annotated[Path, typer.Option(help="trust.toml: keys of log and witnesses.")],
) -> None:
    """Print whom the trust file believes about the log, as c2sp.org/tlog-policy."""
    typer.echo(encode_policy(load_trust(trust).log_policy), nl=False)


@publishing.command("release")
def publish_release(
    log: Url,
    key: RoleKey,
    measurement: Annotated[
        list[str] | None,
        typer.Option(help="PLATFORM=HEX: what a node that runs the release measures; repeat."),
    ] = None,
) -> None:
    """Publish a release: measurements, or the code installed here as a simulated node has it."""
    try:
        _publish(log, key, release_leaf(measurement))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--measurement") from None


@publishing.command("model")
def publish_model(
    log: Url,
    key: RoleKey,
    folder: Annotated[Path, typer.Argument(help="The model's folder.")],
    name: Annotated[str, typer.Option(help="The model's public name.")],
    adapter: Annotated[
        Path | None, typer.Option(help="Folder of a LoRA adapter, merged into the model.")
    ] = None,
    weights: Weights = None,
    draft: Annotated[
        Path | None, typer.Option(help="As the worker's: folder of the draft model.")
    ] = None,
    upstream_kind: UpstreamKind = None,
) -> None:
    """Publish a model's name and digest."""
    if upstream_kind is None:
        speculation = "none" if draft is None else "draft"
        options = EngineOptions(weights=weights, speculation=speculation, draft=draft)
        digest = model_digest(worker_engine(folder, adapter, options=options))
    else:
        digest = upstream_digest(folder, upstream_kind)
    _publish(log, key, model_leaf(name, digest))


@publishing.command("policy")
def publish_policy(
    log: Url,
    key: RoleKey,
    folder: Annotated[Path, typer.Argument(help="The folder of the model to be served.")],
    tensor_parallel: Annotated[
        int, typer.Option(min=1, help="As the worker's own option of this name.")
    ] = 1,
    device: Device = "cpu",
    speculation: Speculation = "none",
    kv_truncation: KvTruncation = False,
    kv_offload: KvOffload = 0,
    verification: Verification = None,
    upstream_kind: UpstreamKind = None,
) -> None:
    """Publish the engine policy of a worker that serves this model."""
    # The policy says that there is a draft, the model's digest which one.
    draft = folder if speculation == "draft" else None
    if upstream_kind is None:
        options = EngineOptions(
            device, None, speculation, draft, kv_truncation, verification, kv_offload
        )
        text = engine_policy(worker_engine(folder, None, tensor_parallel, options))
    else:
        text = upstream_policy(upstream_kind, device)
    _publish(log, key, policy_leaf(text))


@publishing.command("issuer-key")
def publish_issuer_key(
    log: Url,
    key: RoleKey,
    pem: Annotated[Path, typer.Argument(help="The issuer's token key (PEM).")],
    name: Annotated[str, typer.Option(help="The issuer's name.")],
) -> None:
    """Publish an issuer's token key and the fleet's challenge."""
    _publish(log, key, issuer_key_leaf(name, pem))


@publishing.command("rotation")
def publish_rotation(
    log: Url,
    key: RoleKey,
    role: Annotated[Role, typer.Argument(help="The role whose key changes.")],
    new_key: Annotated[Path, typer.Option(help="Seed file of the role's next key.")],
) -> None:
    """Hand a role on to its next key; `--key` is the present one. It cannot be undone."""
    _publish(log, key, rotation_leaf(role, key, new_key))


@publishing.command("withdrawal")
def publish_withdrawal(
    log: Url,
    key: RoleKey,
    leaf_hash: Annotated[str, typer.Argument(help="The leaf's hash, as it was printed.")],
    reason: Annotated[str, typer.Option(help="Why, for everybody to read.")],
) -> None:
    """Withdraw a release, model or policy. It cannot be undone."""
    _publish(log, key, withdrawal_leaf(leaf_hash, reason))


def _publish(log: str, key: Path, body: Body) -> None:
    added, leaf_hash = publish(log, key, body)
    typer.echo(f"leaf {added.index}: {body.type} {leaf_hash.hex()}")
