"""What a person can do about an error: one sentence for each code, wherever it is shown.

An error's own message is the cause. Cause and remedy together are what the API answers, the page
shows and the command line prints; nobody else words them.
"""

from __future__ import annotations

from client.errors import ClientError

_LIST_AGAIN = (
    "Check this machine's clock; if it is right, tell the log's operator, and wait for a list"
)
_DO_NOT_TRUST = "Do not use this log until its operator has explained it in public"

REMEDIES = {
    "port_taken": "Stop what listens there, or choose another port with --port",
    "trust_file": "Get a trust file from someone you trust, and name it with --trust",
    "insecure_url": "Use an https address, or one on this machine",
    "host_refused": (
        "Ask by the proxy's address or as localhost, or start it with --host and the name you use"
    ),
    "simulated_refused": (
        "To try it out start the proxy with --accept simulated; for anything private use a trust "
        "file of real nodes"
    ),
    "node_list_empty": "Start a worker, or wait for the next list: one comes every epoch",
    "nodes_refused": "Read at /verification why each was refused, and accept only what you mean to",
    "no_node": "Ask for a model that GET /v1/models lists",
    "unavailable": "See that the relay runs at the address given with --relay, then ask again",
    "stale_epoch": _LIST_AGAIN,
    "quorum_missing": _LIST_AGAIN,
    "inconsistent": _DO_NOT_TRUST,
    "rolled_back": _DO_NOT_TRUST,
    "two_lists": _DO_NOT_TRUST,
    "node_list": "Check that trust file and relay belong together",
    "wallet_empty": (
        "Wait half a minute for a refill; if none comes, see that the issuer runs and that the "
        "account has quota left"
    ),
    "wallet_damaged": "Start again: a new wallet is filled from the account",
    "state_unwritable": "Make room on its disk, and see that its folder may be written to",
    "issuer": "See that the issuer runs at the address given with --issuer, and the account key",
    "token_refused": "Ask again: another token is shown",
    "relay_error": "See that the relay runs at the address given with --relay, then ask again",
    "relay_timeout": "Ask again; if it stays so, the node is overloaded or the relay holds back",
    "response_error": "Do not rely on any of it, and ask again",
    "response_cut": "Ask again, and do not rely on what came before the cut",
    "response_forged": "Do not rely on any of it; somebody on the way changed it",
    "verification_failed": "Do not rely on any of it, and tell who runs the node",
    "quote_refused": "Ask again in a minute; a node quotes for one at a time",
    "model_not_found": "Ask for a model that GET /v1/models lists",
    "no_proxy": "Start one with `sottovoce up`, or say with --proxy where yours is",
    "no_model": "Wait for a node to be listed; `sottovoce nodes` shows why none is",
    "broke_off": "Ask again, and do not rely on what came before",
    "profile_file": "Compare it with the example in docs/tutorial.md",
    "state_in_use": "Stop the other client, or give this one a state folder of its own",
}
"""By code. What is missing here says in its message what is wrong with the request itself."""


def sentence(cause: str, code: str) -> str:
    """Return cause and remedy: two sentences, or the cause alone where it says all."""
    remedy = REMEDIES.get(code)
    return cause if remedy is None else f"{cause.rstrip('.')}. {remedy}."


def explain(error: ClientError) -> str:
    """Return an error's cause and remedy, for a person."""
    return sentence(str(error), error.code)
