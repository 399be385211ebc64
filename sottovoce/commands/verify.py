"""`sottovoce verify`: judge evidence, a node, a receipt, a log or a policy, offline.

Exit 0 if it holds, 1 if it does not, 2 if the arguments cannot be used.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sottovoce.verify.arguments import (
    MAX_COMPLETION,
    Unusable,
    parse_roots,
    parse_time,
    read_file,
    read_policy,
    read_trust,
)
from sottovoce.verify.output import Verified, run

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Json = Annotated[bool, typer.Option("--json", help="One JSON object for a program.")]
At = Annotated[
    str | None, typer.Option(help="When it is to hold, RFC 3339; now if it is left out.")
]
Policy = Annotated[Path | None, typer.Option(help="A policy file (TOML).")]
Trust = Annotated[Path, typer.Option(help="trust.toml, obtained out of band.")]


@app.command()
def evidence(
    kind: Annotated[str, typer.Option(help="tdx, snp, nvidia, azure-vtpm, gce-vtpm or tpm.")],
    evidence: Annotated[Path, typer.Option(help="The quote or report, as the hardware made it.")],
    collateral: Annotated[
        list[Path] | None,
        typer.Option(help="DCAP collateral, revocation list, RIM or OCSP responses; repeatable."),
    ] = None,
    chain: Annotated[
        list[Path] | None, typer.Option(help="Certificates, PEM or DER, leaf first; repeatable.")
    ] = None,
    event_log: Annotated[Path | None, typer.Option(help="The firmware's event log.")] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(help="SHA-256 of a root to trust in place of the pinned; repeatable."),
    ] = None,
    at: At = None,
    policy: Policy = None,
    as_json: Json = False,
) -> None:
    """Judge one piece of evidence: is it authentic and, under a policy, acceptable?"""

    def work() -> Verified:
        from sottovoce.verify.evidence import (  # noqa: PLC0415 - after help is shown
            EvidenceFiles,
            verify_evidence,
        )

        files = EvidenceFiles(
            evidence=read_file(evidence),
            chain=tuple(map(read_file, chain or ())),
            collateral=tuple(map(read_file, collateral or ())),
            event_log=b"" if event_log is None else read_file(event_log),
        )
        return verify_evidence(
            kind,
            files,
            roots=parse_roots(root or ()),
            at=_time(at),
            policy=read_policy(policy),
        )

    _end(work, as_json=as_json)


@app.command()
def receipt(
    request: Annotated[Path, typer.Option(help="The request's body.")],
    response: Annotated[Path, typer.Option(help="The response, byte for byte as it arrived.")],
    bundle: Annotated[Path, typer.Option(help="The node's bundle, or the nodes document.")],
    receipt: Annotated[
        Path | None, typer.Option(help="The receipt; else the one in the response.")
    ] = None,
    salts: Annotated[
        Path | None, typer.Option(help="The salts; else those beside the receipt.")
    ] = None,
    path: Annotated[str | None, typer.Option(help="The request's path.")] = None,
    at: Annotated[
        str | None, typer.Option(help="RFC 3339: it must have been issued within minutes of it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a receipt: does the node vouch for this answer to this request?

    Save a completion with `curl -sN PROXY/v1/chat/completions -d @request -o response`, and the
    node's bundle with `curl -s RELAY/nodes -o bundle` while the node is listed.
    """

    def work() -> Verified:
        from sottovoce.verify.receipts import ReceiptFiles, verify_receipt  # noqa: PLC0415

        files = ReceiptFiles(
            receipt=None if receipt is None else read_file(receipt),
            request=read_file(request, MAX_COMPLETION),
            response=read_file(response, MAX_COMPLETION),
            bundle=read_file(bundle, MAX_COMPLETION),
            salts=None if salts is None else read_file(salts),
            path=path,
        )
        return verify_receipt(files, at=None if at is None else parse_time(at))

    _end(work, as_json=as_json)


@app.command()
def node(
    trust: Trust,
    nodes: Annotated[Path, typer.Option(help="The nodes document: `curl RELAY/nodes`.")],
    bundle: Annotated[
        Path | None, typer.Option(help="The node's bundle; else the one in the document.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--node", help="Which node, if the document has several.")
    ] = None,
    fresh: Annotated[
        str | None,
        typer.Option(help="URL of your proxy: have the node quoted now; costs a token."),
    ] = None,
    at: At = None,
    policy: Policy = None,
    as_json: Json = False,
) -> None:
    """Appraise a node as a client does: would a prompt be sent to it?

    With --fresh its hardware is asked now, over a nonce made here, through the relay.
    """

    def work() -> Verified:
        from attestation.verifier.policy import ClientPolicy  # noqa: PLC0415
        from sottovoce.verify.fresh import ask_through  # noqa: PLC0415
        from sottovoce.verify.nodes import (  # noqa: PLC0415
            NodeFiles,
            verify_fresh,
            verify_node,
        )

        files = NodeFiles(
            nodes=read_file(nodes, MAX_COMPLETION),
            bundle=None if bundle is None else read_file(bundle),
            node=name,
        )
        demanded = read_policy(policy) or ClientPolicy()
        if fresh is None:
            return verify_node(files, trust=read_trust(trust), policy=demanded, at=_time(at))
        if bundle is not None or at is not None:
            raise Unusable("--fresh asks the node itself, now: without --bundle and --at")
        return verify_fresh(
            files,
            ask_through(fresh),
            nonce=secrets.token_bytes(32),
            trust=read_trust(trust),
            policy=demanded,
            at=_time(None),
        )

    _end(work, as_json=as_json)


@app.command()
def log(
    trust: Trust,
    checkpoint: Annotated[
        Path, typer.Option(help="A cosigned checkpoint, or a log proof (c2sp.org/tlog-proof).")
    ],
    leaf: Annotated[Path | None, typer.Option(help="The leaf that the proof is about.")] = None,
    older: Annotated[Path | None, typer.Option(help="A checkpoint seen before.")] = None,
    consistency: Annotated[
        Path | None, typer.Option(help="The proof from it: a base64 hash a line.")
    ] = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Judge a checkpoint, a leaf's place under it, and that it continues an older one."""

    def work() -> Verified:
        from sottovoce.verify.logs import LogFiles, verify_log  # noqa: PLC0415

        files = LogFiles(
            checkpoint=read_file(checkpoint),
            leaf=None if leaf is None else read_file(leaf),
            older=None if older is None else read_file(older),
            consistency=b"" if consistency is None else read_file(consistency),
        )
        return verify_log(files, trust=read_trust(trust), at=_time(at))

    _end(work, as_json=as_json)


@app.command()
def policy(
    policy: Policy = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say it in plain words.")] = False,
    as_json: Json = False,
) -> None:
    """Check a policy file, and say what it demands; without a file, what the default does."""

    def work() -> Verified:
        from attestation.verifier.policy import ClientPolicy  # noqa: PLC0415
        from sottovoce.verify.policies import describe  # noqa: PLC0415

        return describe(read_policy(policy) or ClientPolicy(), explain=explain)

    _end(work, as_json=as_json)


def _time(text: str | None) -> int:
    return int(time.time()) if text is None else parse_time(text)


def _end(work: Callable[[], Verified], *, as_json: bool) -> None:
    raise typer.Exit(run(work, Console(), as_json=as_json))
