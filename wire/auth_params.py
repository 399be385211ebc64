"""Authentication challenges and credentials in HTTP fields (RFC 9110, section 11).

    value  = scheme [ 1*SP ( token68 / param *( "," param ) ) ] *( "," value )
    param  = token "=" ( token / quoted-string )

Only what Privacy Pass needs: names and quoted values. Other schemes are stepped over.
"""

from __future__ import annotations

import base64
import binascii
import re

from wire.errors import Malformed

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SEPARATOR = re.compile(rb"[ \t,]*")
_SCHEME = re.compile(rb"(%s)(?: +|(?=,)|$)" % _TOKEN)
_TOKEN68 = re.compile(rb"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_QUOTED = rb"\"((?:[^\"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*)\""
_PARAM = re.compile(rb"(%s)[ \t]*=[ \t]*(?:(%s)|%s)(?=[ \t]*(?:,|$))" % (_TOKEN, _TOKEN, _QUOTED))

Params = dict[bytes, bytes]
"""Parameters by their lower-case names, quotes and escapes removed."""


def parse(value: bytes) -> tuple[tuple[bytes, Params], ...]:
    """Parse a field value into its (lower-case scheme, parameters), in order.

    Raises:
        Malformed: not of the grammar, or a parameter is given twice.
    """
    found: list[tuple[bytes, Params]] = []
    position = _skip(value, 0)
    while position < len(value):
        if found and (param := _PARAM.match(value, position)):
            _add(found[-1][1], param)
            position = param.end()
        elif scheme := _SCHEME.match(value, position):
            found.append((scheme[1].lower(), {}))
            opaque = _TOKEN68.match(value, scheme.end())
            position = opaque.end() if opaque else scheme.end()
        else:
            raise Malformed("not a list of authentication schemes and parameters")
        position = _skip(value, position)
    return tuple(found)


def _skip(value: bytes, position: int) -> int:
    separator = _SEPARATOR.match(value, position)
    return separator.end() if separator else position


def _add(params: Params, match: re.Match[bytes]) -> None:
    name = match[1].lower()
    if name in params:
        raise Malformed("an authentication parameter is given twice")
    quoted = re.sub(rb"\\(.)", rb"\1", match[3] or b"")
    params[name] = match[2] if match[2] is not None else quoted


def encode_base64url(data: bytes) -> bytes:
    """Encode as base64url with padding, which RFC 9577 wants."""
    return base64.urlsafe_b64encode(data)


def decode_base64url(text: bytes) -> bytes:
    """Decode base64url with padding, in its one canonical form.

    Raises:
        Malformed: anything else: no padding, other alphabet, stray bits.
    """
    try:
        data = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError):
        raise Malformed("not base64url") from None
    if base64.urlsafe_b64encode(data) != text:
        raise Malformed("not the canonical base64url")
    return data
