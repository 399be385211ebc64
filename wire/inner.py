"""The inner request: the fixed words that every client uses and every worker checks.

It holds method, path, content type, date and tokens, nothing else, so that no two clients differ.
The authority is the same for every node: HPKE names the node. The tokens travel inside, the first
in `Authorization`, further ones in `sottovoce-tokens`, our extension of RFC 9577. With them come as
many blinded messages, for what the request does not use (`wire.refund`): how many tokens a request
carries is all that its fields tell.

    InnerError(Malformed)
    ├── WrongAuthority        another scheme or authority, or a Host that says so
    ├── ForbiddenForm         CONNECT, or a path that is not plain: absolute URL, dot segments
    ├── ForbiddenPath         not one of the paths below
    ├── ForbiddenMethod       not the method of the path
    ├── UnexpectedTrailers    a trailer section
    ├── RepeatedField         a field that counts is given twice
    ├── ExpectRefused         Expect, which RFC 9458 (section 5.1) has refused
    ├── WrongContentType      a body that is not JSON, or a body where there is none
    ├── DateMissing           no Date, or not one in the preferred format
    ├── DateOutsideWindow     older or newer than the window
    ├── BadTokens             tokens that cannot be read, or not 0, 1, 2, 4 or 8 of them
    └── BadBlinded            blinded messages that cannot be read, or not as many as tokens
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from wire.auth_params import decode_base64url, encode_base64url
from wire.bhttp import Fields, Request
from wire.errors import Malformed, WireError
from wire.privacy_pass import Token, format_authorization, parse_authorization
from wire.refund import BLINDED_FIELD, BlindedMessages

SCHEME = b"https"
AUTHORITY = b"sottovoce.invalid"
CONTENT_TYPE = b"application/json"
TOKENS_FIELD = b"sottovoce-tokens"
TOKENS_NEEDED_FIELD = b"sottovoce-tokens-needed"

METHODS = {
    b"/v1/chat/completions": b"POST",
    b"/v1/completions": b"POST",
    b"/v1/responses": b"POST",
    b"/tokenize": b"POST",
    b"/detokenize": b"POST",
    b"/v1/models": b"GET",
    b"/v1/attestation": b"GET",
}
"""The method of each path a worker answers."""

PATHS = frozenset(METHODS)

TOKEN_COUNTS = (0, 1, 2, 4, 8)
"""How many tokens a request may carry. Powers of two, so that the count says little; 0 is for what
costs none, and for being told what something costs."""

DATE_WINDOW_S = 300
"""How far a Date may lie from the worker's clock, either way. Clocks of clients are mostly within
seconds; five minutes bear a bad one and keep the replay set (one entry a request) small."""

DATE_PROBLEM = "https://iana.org/assignments/http-problem-types#date"
"""Problem type of an answer to a Date outside the window (RFC 9458, section 6.5.2)."""


class InnerError(Malformed):
    """An inner request that is not one of ours."""


class WrongAuthority(InnerError):
    """Another scheme or authority than the fixed ones."""


class ForbiddenForm(InnerError):
    """A request to be forwarded somewhere, or around the list of paths; nothing here forwards."""


class ForbiddenPath(InnerError):
    """A path that is not on the list."""


class ForbiddenMethod(InnerError):
    """Not the method of the path."""


class UnexpectedTrailers(InnerError):
    """A trailer section, which no client of ours sends."""


class RepeatedField(InnerError):
    """A field that counts is given twice."""


class ExpectRefused(InnerError):
    """An Expect field: nothing inside an encapsulated request can be answered early."""


class WrongContentType(InnerError):
    """A body that is not JSON, or one that should not be there."""


class DateMissing(InnerError):
    """No Date, or not one that can be read."""


class DateOutsideWindow(InnerError):
    """A Date too far from the worker's clock."""


class BadTokens(InnerError):
    """Tokens that cannot be read, or a number of them that is not allowed."""


class BadBlinded(InnerError):
    """Blinded messages that cannot be read, or not as many as tokens."""


@dataclass(frozen=True)
class InnerRequest:
    """What a worker acts on. `date` in seconds of Unix time; `query` without the question mark."""

    method: bytes
    path: bytes
    query: bytes
    body: bytes = field(repr=False)
    date: int
    tokens: tuple[Token, ...]
    blinded: BlindedMessages | None = None
    """None from a client that wants nothing back: ours always does."""


def build_request(
    *,
    method: bytes,
    path: bytes,
    body: bytes,
    date: int,
    tokens: Sequence[Token] = (),
    blinded: BlindedMessages | None = None,
) -> Request:
    """Build the inner request. The caller rounds `date` (Unix seconds) to the minute.

    `path` may carry a query.

    Raises:
        InnerError: what `parse_request` would refuse.
    """
    headers: list[tuple[bytes, bytes]] = []
    if body:
        headers.append((b"content-type", CONTENT_TYPE))
    headers.append((b"date", http_date(date)))
    if tokens:
        headers.append((b"authorization", format_authorization(tokens[0])))
    if tokens[1:]:
        further = b", ".join(encode_base64url(token.encode()) for token in tokens[1:])
        headers.append((TOKENS_FIELD, further))
    if blinded is not None:
        headers.append((BLINDED_FIELD, blinded.encode()))
    request = Request(method, SCHEME, AUTHORITY, path, tuple(headers), body)
    parse_request(request)
    return request


def parse_request(request: Request) -> InnerRequest:
    """Read an inner request; fields without a meaning here are passed over.

    Whether the date lies in the window is asked apart, with `check_date`; whether the tokens are
    worth anything, with `privacy_pass.verify_token`.

    Raises:
        InnerError: the kind that says what is wrong, in the order of the list above.
    """
    fields = _single_fields(request.headers)
    if (request.scheme, request.authority) != (SCHEME, AUTHORITY):
        raise WrongAuthority("not the authority of inner requests")
    if fields.get(b"host", AUTHORITY) != AUTHORITY:
        raise WrongAuthority("a Host field names another authority")
    if request.method == b"CONNECT" or not _PLAIN_PATH.fullmatch(request.path):
        raise ForbiddenForm("not a request for a plain path")
    path, _, query = request.path.partition(b"?")
    if path not in METHODS:
        raise ForbiddenPath("not a path of inner requests")
    if request.method != METHODS[path]:
        raise ForbiddenMethod("not the method of this path")
    if request.trailers:
        raise UnexpectedTrailers("an inner request has no trailers")
    if b"expect" in fields:
        raise ExpectRefused("Expect is not supported")
    _check_body(request, fields)
    date, tokens = _date(fields), _tokens(fields)
    blinded = _blinded(fields, len(tokens))
    return InnerRequest(request.method, path, query, request.content, date, tokens, blinded)


def check_date(date: int, at: int) -> None:
    """Check a request's date against the clock, both in Unix seconds.

    Raises:
        DateOutsideWindow: more than `DATE_WINDOW_S` apart.
    """
    if abs(date - at) > DATE_WINDOW_S:
        raise DateOutsideWindow("the date is outside the window")


_PLAIN_PATH = re.compile(rb"(?:/(?!\.{1,2}(?:[/?]|\Z))[^/?]*)+(?:\?.*)?", re.DOTALL)
"""A path that begins with a slash and has no segment `.` or `..` (RFC 9110, section 4.2.3)."""

_SINGLE = frozenset(
    (
        b"host",
        b"expect",
        b"content-type",
        b"date",
        b"authorization",
        TOKENS_FIELD,
        BLINDED_FIELD,
    )
)


def _single_fields(headers: Fields) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SINGLE and name in fields:
            raise RepeatedField("a field that counts is given twice")
        fields[name] = value
    return fields


def _check_body(request: Request, fields: dict[bytes, bytes]) -> None:
    if request.method == b"GET":
        if request.content:
            raise WrongContentType("this request has no body")
        return
    media_type = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != CONTENT_TYPE:
        raise WrongContentType("the body is JSON")


def _date(fields: dict[bytes, bytes]) -> int:
    if b"date" not in fields:
        raise DateMissing("an inner request has a Date")
    try:
        return parse_http_date(fields[b"date"])
    except Malformed:
        raise DateMissing("the Date is not in the preferred format") from None


def _tokens(fields: dict[bytes, bytes]) -> tuple[Token, ...]:
    further = fields.get(TOKENS_FIELD)
    if b"authorization" not in fields:
        if further is not None:
            raise BadTokens("further tokens without a first one")
        return ()
    items = () if further is None else further.split(b",")
    try:
        first = parse_authorization(fields[b"authorization"])
        others = [Token.decode(decode_base64url(item.strip(b" \t"))) for item in items]
    except WireError:
        raise BadTokens("a token cannot be read") from None
    if 1 + len(others) not in TOKEN_COUNTS:
        raise BadTokens("a request carries 1, 2, 4 or 8 tokens")
    return (first, *others)


def _blinded(fields: dict[bytes, bytes], count: int) -> BlindedMessages | None:
    if BLINDED_FIELD not in fields:
        return None
    try:
        blinded = BlindedMessages.decode(fields[BLINDED_FIELD])
    except WireError:
        raise BadBlinded("blinded messages that cannot be read") from None
    if len(blinded.messages) != count:
        raise BadBlinded("not as many blinded messages as tokens")
    return blinded


# Dates (RFC 9110, section 5.6.7), without the locale that `strftime` would bring in.

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"
)  # fmt: skip
_DATE = re.compile(
    rb"(?:%s), (\d\d) (%s) (\d{4}) (\d\d):(\d\d):(\d\d) GMT"
    % (b"|".join(_DAYS), b"|".join(_MONTHS))
)
_LATEST = 253402300799  # the last second of the year 9999, where four digits end


def http_date(unix: int) -> bytes:
    """Write Unix seconds as an IMF-fixdate, e.g. `Sun, 06 Nov 1994 08:49:37 GMT`.

    Raises:
        ValueError: before 1970 or after 9999.
    """
    if not 0 <= unix <= _LATEST:
        raise ValueError("a date is between the years 1970 and 9999")
    at = datetime.fromtimestamp(unix, UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    clock = (at.hour, at.minute, at.second)
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (day, at.day, month, at.year, *clock)


def parse_http_date(value: bytes) -> int:
    """Read an IMF-fixdate as Unix seconds; the obsolete formats are refused.

    Raises:
        Malformed: not one, a date that does not exist, a wrong weekday, or before 1970.
    """
    match = _DATE.fullmatch(value)
    if match is None:
        raise Malformed("not an IMF-fixdate")
    day, year, *clock = (int(match[group]) for group in (1, 3, 4, 5, 6))
    month = _MONTHS.index(match[2]) + 1
    try:
        unix = calendar.timegm((year, month, day, *clock))
        exact = http_date(unix) == value
    except ValueError:
        raise Malformed("not a date") from None
    if not exact:
        raise Malformed("not a date that exists")
    return unix
