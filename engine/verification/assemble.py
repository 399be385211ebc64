"""T's side of the verification of one loaded model, put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.config import EngineConfig
from engine.loader import LoadedModel
from engine.native.model import NativeModel
from engine.verification.attention.running import TAIL
from engine.verification.attention.sketched import SketchedAttention
from engine.verification.gate import Gate
from engine.verification.model import TrustedModel, observe_packed, trusted_model, weights
from engine.verification.secrets import Secrets
from engine.verification.sketch import Sketcher
from engine.verification.thresholds import read
from engine.verification.verifier import Verifier

SHARED = TAIL - 1
"""T's sketches of a sequence can be taken back by so many positions: no later may another one of
its group begin with them."""

_WORTHWHILE = 4 << 20
"""Bytes of sketches from which on steps are checked on a thread of their own."""


def gate_of(
    config: EngineConfig, loaded: LoadedModel, alarm: Callable[[], None] | None = None
) -> Gate | None:
    """Return what stands between sampled and released; None where nothing is verified.

    T sketches the weights that were packed from the bytes hashed into the model digest: on a CPU T
    and U have them in one memory, so T's own copy is also what a failed check is repeated with.
    """
    model = loaded.computation
    if config.verification == "none" or not isinstance(model, NativeModel):
        return None
    secrets = Secrets()
    thresholds = read(config.model)
    renew = partial(_trusted, config, model, secrets)
    trusted = renew()
    verifier = Verifier(
        trusted,
        SketchedAttention(trusted, secrets, thresholds),
        mode=config.verification,
        audit_rows=config.audit_rows,
        secrets=secrets,
        thresholds=thresholds,
        weights=partial(weights, model),
        renew=renew,
    )
    large = sum(sketch.packed.nbytes for sketch in trusted.sketches.values()) >= _WORTHWHILE
    return Gate(
        verifier,
        mode=config.verification,
        model_digest=loaded.digest,
        beside=model.threads > 1 and large,
        alarm=alarm,
    )


def _trusted(config: EngineConfig, model: NativeModel, secrets: Secrets) -> TrustedModel:
    sketcher = Sketcher(secrets, int8=config.weights == "int8")
    observe_packed(model, sketcher)
    return trusted_model(model, sketcher)
