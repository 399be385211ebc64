"""A witness of one log (c2sp.org/tlog-witness): it cosigns only what continues what it cosigned.

    POST /add-checkpoint -> 200 cosignature line
                            400 not a request, or an old size above the checkpoint's
                            403 no signature by the log's key
                            404 another log
                            409 an old size that is not where the witness is (text/x.tlog.size),
                                or another root for the same size
                            422 the consistency proof does not verify

The state is one file, the last note cosigned, on the disk before the cosignature leaves. Without
that file a witness begins anew, so it must never be deleted while the log lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from transparency.body import read_body
from transparency.checkpoint import Checkpoint
from transparency.errors import (
    AtAnotherSize,
    BadSignature,
    Inconsistent,
    Malformed,
    StorageDamaged,
    TransparencyError,
    Unsigned,
    WitnessRefusal,
    WrongOrigin,
)
from transparency.files import read_if_present, read_seed, write_durably
from transparency.merkle import verify_consistency
from transparency.note import KeyType, Note, Signer, VerifierKey, cosign
from transparency.policy import verify_log_signature
from transparency.witness_request import MAX_REQUEST_LENGTH, SIZE_TYPE, AddCheckpoint
from wire.merkle import EMPTY_ROOT


@dataclass(frozen=True)
class WitnessConfig:
    """One witness: its name, the one log it watches, its key, its memory, where it listens.

    `seed_file` holds the seed of the witness's cosignature key; `name` is that key's name.
    """

    name: str
    log_vkey: str
    seed_file: Path
    state_file: Path
    host: str = "127.0.0.1"
    port: int = 8180


class Witness:
    """The witness's decision and its memory. One request at a time decides and remembers."""

    def __init__(self, log_key: VerifierKey, signer: Signer, state_file: Path) -> None:
        """Read the memory, if there is one.

        Raises:
            StorageDamaged: the state file is not a note of this log.
        """
        self._log_key = log_key
        self._signer = signer
        self._state_file = state_file
        self._lock = threading.Lock()
        self._latest = self._read()

    @property
    def size(self) -> int:
        """The size of the tree last cosigned; 0 if none."""
        return self._latest.size

    def add_checkpoint(self, body: bytes, at: int) -> str:
        """Return the cosignature line, as of `at` (Unix seconds), for a request body.

        Raises:
            WitnessRefusal: every other answer, with its status.
        """
        try:
            request = AddCheckpoint.parse(body)
            checkpoint = verify_log_signature(Note.parse(request.note), [self._log_key])
        except Malformed as error:
            raise WitnessRefusal(400, str(error)) from error
        except WrongOrigin as error:
            raise WitnessRefusal(404, str(error)) from error
        except (Unsigned, BadSignature) as error:
            raise WitnessRefusal(403, str(error)) from error
        if request.old_size > checkpoint.size:
            raise WitnessRefusal(400, "the old size is above the checkpoint's")
        with self._lock:
            self._check_continues(request, checkpoint)
            write_durably(self._state_file, request.note)
            self._latest = checkpoint
        return cosign(checkpoint.encode(), self._signer, at).encode()

    def _check_continues(self, request: AddCheckpoint, checkpoint: Checkpoint) -> None:
        latest = self._latest
        if request.old_size != latest.size:
            raise AtAnotherSize(latest.size)
        if latest.size == checkpoint.size and latest.root != checkpoint.root:
            raise WitnessRefusal(409, "another root for the same size")
        try:
            verify_consistency(
                latest.size, latest.root, checkpoint.size, checkpoint.root, request.proof
            )
        except Inconsistent as error:
            raise WitnessRefusal(422, str(error)) from error

    def _read(self) -> Checkpoint:
        data = read_if_present(self._state_file)
        if data is None:
            return Checkpoint(self._log_key.name, 0, EMPTY_ROOT)
        try:
            return verify_log_signature(Note.parse(data), [self._log_key])
        except TransparencyError as error:
            raise StorageDamaged("the witness's state is not a note of its log") from error


def build_app(config: WitnessConfig, *, clock: Callable[[], float] = time.time) -> Starlette:
    """Build the HTTP service.

    Raises:
        UnsafeKeyFile, StorageDamaged, Malformed: the configuration cannot be served.
    """
    signer = Signer.from_seed(config.name, KeyType.COSIGNATURE, read_seed(config.seed_file))
    witness = Witness(VerifierKey.parse(config.log_vkey), signer, config.state_file)

    async def add_checkpoint(request: Request) -> Response:
        body = await read_body(request, MAX_REQUEST_LENGTH)
        if body is None:
            return PlainTextResponse("the request is too large\n", 413)
        try:
            line = await run_in_threadpool(witness.add_checkpoint, body, int(clock()))
        except AtAnotherSize as refusal:
            return Response(str(refusal), refusal.status, {"content-type": SIZE_TYPE})
        except WitnessRefusal as refusal:
            return PlainTextResponse(f"{refusal}\n", refusal.status)
        return PlainTextResponse(line)

    async def health(_: Request) -> Response:
        vkey = str(signer.verifier_key)
        return JSONResponse({"status": "ok", "size": witness.size, "key": vkey})

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/health", health),
        ]
    )


def serve(config: WitnessConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    uvicorn.run(
        build_app(config),
        host=config.host,
        port=config.port,
        loop="asyncio",
        access_log=False,
        server_header=False,
        date_header=False,
        log_level="warning",
    )
