"""What to do about a verification that failed, by how its code ends or begins."""

from __future__ import annotations

_EXACT = {
    "measurement-not-logged": "Do not use this node: it runs what nobody has published.",
    "report-data-mismatch": "Do not use this node: its quote vouches for other keys.",
    "nonce-mismatch": "Ask again; if it stays so, the node shows an old quote for a fresh one.",
    "node-mismatch": "Do not use this node: another one answers in its place.",
    "receipt-of-another-request": (
        "Give the body exactly as it was sent, and --path if it was not the usual one."
    ),
    "receipt-of-another-response": (
        "Save the response byte for byte (curl -sN -o response), the whole of a stream included."
    ),
    "receipt-of-another-node": "Give the bundle of the node that the completion names as `node`.",
    "platform-refused": "A weak platform is accepted by name only: `verify policy --explain`.",
    "quorum_missing": "Fetch a fresh checkpoint; if it stays so, do not believe this log.",
    "inconsistent": "Keep both checkpoints and publish them: together they prove a fork.",
    "two_lists": "Keep both lists and publish them: together they prove that the log lies.",
    "stale_epoch": "Say with --at when the list was fetched, or fetch the current one.",
}
_ENDINGS = {
    "-malformed": "Give the file as the platform wrote it, whole, and check --kind.",
    "-expired": "Fetch fresh collateral, or say with --at when the evidence was made.",
    "-too-old": "Fetch fresh evidence, or say with --at when it was made.",
    "-not-yet-valid": "Check --at and this machine's clock.",
    "-future": "Check --at and this machine's clock.",
    "-root-unknown": "Only a root that you know from elsewhere may be added, with --root.",
    "-revoked": "Do not trust this machine: its key was withdrawn.",
    "-signature-bad": "Somebody changed it, or it belongs to other evidence: do not use it.",
    "-missing": "Give what is missing, or ask the node's operator for it.",
}


def advice(code: str) -> str | None:
    """Return a sentence of advice, or None where the reason says it all."""
    for ending, text in _ENDINGS.items():
        if str(code).endswith(ending):
            return text
    return _EXACT.get(str(code))
