"""The errors of this party.

    IssuerError
    ├── Unusable                what the operator configured cannot be served; nothing starts
    │   ├── LibcryptoMissing    no libcrypto with a raw RSA operation behind Python's own `_ssl`
    │   ├── KeyUnusable         not a key this issuer may sign with
    │   ├── DatabaseUnusable    a URL, a schema or an owner that is not ours
    │   ├── SocketInUse         the unix socket is somebody's already
    │   └── StartFailed         the service ended before it could serve
    ├── RequestRefused          the request is at fault; costs nothing
    │   ├── WrongMediaType      the content is not announced as what is asked for
    │   ├── BodyTooLarge        more bytes than any such request has
    │   ├── BodyTooSlow         the bytes did not come in time
    │   ├── MalformedRequest    not the structure: its size, token type or JSON members
    │   ├── UnknownKey          names a key this issuer does not sign with
    │   └── BlindedOutOfRange   the blinded message is not below the modulus
    ├── AccountRefused
    │   ├── UnknownAccount      no account key, or one nobody was given
    │   └── QuotaExhausted      every token of this account's quota was drawn
    ├── TokenRefused            the token to be exchanged is none of this issuer's
    ├── SpendRefused
    │   ├── Spent               at least one row is there already; none was added
    │   └── KeyRetired          the rows of this key were dropped; it takes no more
    ├── StoreUnavailable        the spent-token store did not answer; asking again tells
    ├── SigningFault            a private operation went wrong; its result is not released
    └── DatabaseUnavailable     the database did not answer; whether it acted is not known

No message quotes an account key, a token or any part of a request.
"""

from __future__ import annotations


class IssuerError(Exception):
    """Base of every error raised by `issuer`."""


class Unusable(IssuerError):
    """What the operator configured cannot be served."""


class LibcryptoMissing(Unusable):
    """There is no libcrypto with a raw RSA operation behind Python's own `_ssl`."""


class KeyUnusable(Unusable):
    """Not a key this issuer may sign with."""


class DatabaseUnusable(Unusable):
    """The URL names no database we support, or one that belongs to something else."""


class SocketInUse(Unusable):
    """Somebody answers at the unix socket, or the path holds something that is no socket."""


class StartFailed(Unusable):
    """The service ended before it could serve."""


class RequestRefused(IssuerError):
    """The request is at fault. Refusing it costs its sender nothing."""


class WrongMediaType(RequestRefused):
    """The content is not announced as the media type that is asked for."""


class BodyTooLarge(RequestRefused):
    """The body has more bytes than any such request has."""


class BodyTooSlow(RequestRefused):
    """The body did not arrive in time."""


class MalformedRequest(RequestRefused):
    """The body is not of the structure: its size, its token type or its members."""


class UnknownKey(RequestRefused):
    """The request names a key this issuer does not sign with."""


class BlindedOutOfRange(RequestRefused):
    """The blinded message, as an integer, is not below the modulus."""


class AccountRefused(IssuerError):
    """The account may not draw this token."""


class UnknownAccount(AccountRefused):
    """There is no account key, or one that nobody was given."""


class QuotaExhausted(AccountRefused):
    """Every token of this account's quota was drawn."""


class TokenRefused(IssuerError):
    """The token to be exchanged is not one of this issuer's."""


class SpendRefused(IssuerError):
    """The tokens were not spent; the store is as it was."""


class Spent(SpendRefused):
    """At least one of the rows is there already. None was added."""


class KeyRetired(SpendRefused):
    """The rows of this key were dropped, so it takes no more."""


class StoreUnavailable(IssuerError):
    """The spent-token store did not answer. Asking again, with the same bytes, is harmless."""


class SigningFault(IssuerError):
    """A private operation went wrong. Its result would give the key away and is not released."""


class DatabaseUnavailable(IssuerError):
    """The database did not answer. Whether it acted before that is not known."""
