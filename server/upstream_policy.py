"""What can be said of an engine that is not ours: little, and that is what is said.

Its computation is not verified, and its memory is not erased by us: both are weaknesses by name,
which a client's policy refuses unless told otherwise. Its own optimisations are not seen here.
"""

from __future__ import annotations

from pathlib import Path

from engine import digest
from engine.policy import OPTIMISATIONS
from server.upstream_dialect import DIALECTS
from wire import canonical_json

UPSTREAM = "upstream"
_NOT_SEEN = "another engine's, and not seen here"


def upstream_policy(kind: str, device: str) -> bytes:
    """Return the engine policy of a worker in front of another engine, as canonical JSON.

    Args:
        kind: of the engine (`server.upstream_dialect`).
        device: what it computes on, as an engine's configuration says it.
    """
    device = device.partition(":")[0]
    rows = {
        row.name: {
            "state": "refused" if row.state == "refused" else "off",
            "form": f"{row.form}; not asked for: {_NOT_SEEN}",
        }
        for row in OPTIMISATIONS
    }
    return canonical_json.encode(
        {
            "version": 1,
            "verification": "none",
            "transfers": "none" if device == "cpu" else "plain",
            "erasure": UPSTREAM,
            # A fresh salt for each sequence: no request meets what another one left.
            "prefix_cache": "none" if DIALECTS[kind].extended else UPSTREAM,
            "device": device,
            "upstream": kind,
            "optimisations": rows,
        }
    )


def upstream_digest(folder: Path, kind: str) -> bytes:
    """Return the digest of a model that another engine says it serves, 32 bytes.

    It is never that of the same folder served by our engine: the folder was hashed here, and what
    the other engine loaded was not.

    Raises:
        ModelFiles: the folder holds no safetensors, or one that is not well formed.
    """
    settings = canonical_json.encode(["settings", {"upstream": kind}])
    folder_leaf = canonical_json.encode(["folder", digest.folder_root(folder).hex()])
    return digest.root([settings, folder_leaf])
