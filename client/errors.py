"""What can go wrong on the client's side, and whose fault it is.

    ClientError
    ├── TrustFileError        trust.toml is missing, malformed or contradicts itself
    ├── PortTaken             another process listens where the proxy was to
    ├── InsecureUrl           a party would be spoken to in clear across a network
    ├── HostRefused           the proxy was asked by a name that is not its own
    ├── NodeListError         no list of nodes for now that the log and its witnesses vouch for
    ├── NoNode                nodes are known, but none that the policy accepts serves this model
    ├── WalletEmpty           no token in stock; the wallet refills at times of its own
    ├── WalletDamaged         the wallet's file cannot be read; it was put aside
    ├── StateUnwritable       a file of the client's cannot be written: no room, or no permission
    ├── IssuerError           the issuer did not sign what was asked
    │   └── TokenWorthless    ... and will never exchange this token
    ├── RequestRefused        the request is not one a client may send (the caller's fault)
    ├── RelayError            the relay, or the way beyond it, failed in clear
    │   └── RelayTimeout      ... by saying nothing for too long
    ├── ResponseError         what came back is not an answer of the node that was asked
    │   ├── ResponseCut       the stream ended before its authenticated end
    │   └── ResponseForged    a part of it does not open or does not parse
    ├── QuoteRefused          the node that was asked for a fresh quote gave none
    └── VerificationFailed    the receipt does not hold; the text must not be believed

No message quotes a prompt, an answer or a token.
"""

from __future__ import annotations

from attestation.verdict import Verdict


class ClientError(Exception):
    """Base of every error raised by `client`; `code` is stable and machine readable."""

    code = "client_error"


class TrustFileError(ClientError):
    """The trust file cannot be used."""

    code = "trust_file"


class PortTaken(ClientError):
    """Another process listens at the address that the proxy was given."""

    code = "port_taken"


class InsecureUrl(ClientError):
    """A URL that would carry requests in clear beyond this machine."""

    code = "insecure_url"


class HostRefused(ClientError):
    """The proxy was asked by a name that is not its own: a page may have rebound it."""

    code = "host_refused"


class NodeListError(ClientError):
    """There is no current node list that log and witnesses vouch for."""

    code = "node_list"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class NoNode(ClientError):
    """No verified node serves the model that was asked for; `code` says how few there are."""

    code = "no_node"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class WalletEmpty(ClientError):
    """There is no token left, and none arrived in time."""

    code = "wallet_empty"


class IssuerError(ClientError):
    """The issuer refused or could not be reached."""

    code = "issuer"


class TokenWorthless(IssuerError):
    """A token that no asking again will exchange."""


class WalletDamaged(ClientError):
    """The wallet's file is not one; the message says where it is kept."""

    code = "wallet_damaged"


class StateUnwritable(ClientError):
    """A file of the client's cannot be written; what it held before it still holds."""

    code = "state_unwritable"


class RequestRefused(ClientError):
    """The caller's request cannot be sent on."""

    code = "invalid_request"


class RelayError(ClientError):
    """The relay, or the way beyond it, failed outside the encapsulation."""

    code = "relay_error"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The relay's status code, or None where it could not be reached."""


class RelayTimeout(RelayError):
    """Nothing came from the relay for too long."""

    code = "relay_timeout"


class ResponseError(ClientError):
    """The response is not an authentic, complete answer of the node that was asked."""

    code = "response_error"


class ResponseCut(ResponseError):
    """The response ended before its authenticated end."""

    code = "response_cut"


class ResponseForged(ResponseError):
    """A part of the response failed authentication or is malformed."""

    code = "response_forged"


class QuoteRefused(ClientError):
    """The node did not give the fresh quote that it was asked for; it says why."""

    code = "quote_refused"


class VerificationFailed(ClientError):
    """The receipt failed a check. Carries the verdict up to and including that check."""

    code = "verification_failed"

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict
