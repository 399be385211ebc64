import calendar
import dataclasses
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import bhttp, inner
from wire.errors import Malformed
from wire.privacy_pass import Token, format_authorization
from wire.refund import BlindedMessages

DATE = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110, section 5.6.7
TOKENS = [Token(bytes([n]) * 32, bytes(32), bytes(32), bytes(256)) for n in range(9)]
CHAT = b"/v1/chat/completions"


def build(**changes):
    arguments = {"method": b"POST", "path": CHAT, "body": b"{}", "date": DATE, "tokens": TOKENS[:1]}
    return inner.build_request(**(arguments | changes))


def with_fields(*fields, without=()):
    request = build()
    kept = tuple(field for field in request.headers if field[0] not in without)
    return dataclasses.replace(request, headers=(*kept, *fields))


def test_a_request_holds_exactly_what_the_design_says():
    request = build()
    assert request == bhttp.Request(
        b"POST",
        b"https",
        b"sottovoce.invalid",
        CHAT,
        (
            (b"content-type", b"application/json"),
            (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (b"authorization", format_authorization(TOKENS[0])),
        ),
        b"{}",
    )


@pytest.mark.parametrize("count", inner.TOKEN_COUNTS)
def test_tokens_come_back_in_order(count):
    request = bhttp.decode_request(bhttp.encode_request(build(tokens=TOKENS[:count])))
    read = inner.parse_request(request)
    assert read == inner.InnerRequest(b"POST", CHAT, b"", b"{}", DATE, tuple(TOKENS[:count]))


@pytest.mark.parametrize("count", [3, 5, 6, 7, 9])
def test_other_numbers_of_tokens_are_refused(count):
    with pytest.raises(inner.BadTokens, match="1, 2, 4 or 8"):
        build(tokens=TOKENS[:count])


def test_a_query_travels_beside_the_path():
    request = build(method=b"GET", path=b"/v1/attestation?nonce=00ff", body=b"")
    read = inner.parse_request(request)
    assert (read.path, read.query, read.body) == (b"/v1/attestation", b"nonce=00ff", b"")
    assert b"content-type" not in dict(request.headers)


def test_unknown_fields_are_passed_over():
    assert inner.parse_request(with_fields((b"accept", b"*/*"), (b"accept", b"x"))).date == DATE


ONE_FORGERY_PER_CHECK = [
    (inner.WrongAuthority, dataclasses.replace(build(), authority=b"example.com")),
    (inner.WrongAuthority, dataclasses.replace(build(), authority=b"")),
    (inner.WrongAuthority, dataclasses.replace(build(), scheme=b"http")),
    (inner.WrongAuthority, with_fields((b"host", b"example.com"))),
    (inner.ForbiddenPath, dataclasses.replace(build(), path=b"/v1/embeddings")),
    (inner.ForbiddenForm, dataclasses.replace(build(), path=b"/v1/../v1/models")),
    (inner.ForbiddenForm, dataclasses.replace(build(), path=b"/v1/.")),
    (inner.ForbiddenForm, dataclasses.replace(build(), path=b"/..?a")),
    (inner.ForbiddenForm, dataclasses.replace(build(), path=b"https://sottovoce.invalid" + CHAT)),
    (inner.ForbiddenPath, dataclasses.replace(build(), path=CHAT + b"/")),
    (inner.ForbiddenPath, dataclasses.replace(build(), path=b"//v1/models")),
    (inner.ForbiddenPath, dataclasses.replace(build(), path=b"/v1/%2e%2e/v1/models")),
    (inner.ForbiddenForm, dataclasses.replace(build(), path=b"")),
    (inner.ForbiddenMethod, dataclasses.replace(build(), method=b"GET")),
    (inner.ForbiddenForm, dataclasses.replace(build(), method=b"CONNECT", path=b"")),
    (inner.ForbiddenForm, dataclasses.replace(build(), method=b"CONNECT")),
    (inner.ForbiddenMethod, dataclasses.replace(build(), path=b"/v1/models")),
    (inner.UnexpectedTrailers, dataclasses.replace(build(), trailers=((b"a", b"b"),))),
    (inner.RepeatedField, with_fields((b"date", inner.http_date(DATE)))),
    (inner.RepeatedField, with_fields((b"authorization", format_authorization(TOKENS[1])))),
    (inner.ExpectRefused, with_fields((b"expect", b"100-continue"))),
    (inner.WrongContentType, with_fields(without=(b"content-type",))),
    (
        inner.WrongContentType,
        with_fields((b"content-type", b"text/plain"), without=(b"content-type",)),
    ),
    (
        inner.WrongContentType,
        dataclasses.replace(build(), method=b"GET", path=b"/v1/models"),
    ),
    (inner.DateMissing, with_fields(without=(b"date",))),
    (inner.DateMissing, with_fields((b"date", b"yesterday"), without=(b"date",))),
    (inner.BadTokens, with_fields((b"authorization", b"Bearer x"), without=(b"authorization",))),
    (inner.BadTokens, with_fields((inner.TOKENS_FIELD, b"AAAA"))),
    (inner.BadTokens, with_fields((inner.TOKENS_FIELD, b""))),
    (inner.BadTokens, with_fields((inner.TOKENS_FIELD, b"AAAA"), without=(b"authorization",))),
]


@pytest.mark.parametrize(("error", "request_"), ONE_FORGERY_PER_CHECK)
def test_every_check_refuses_its_forgery_by_name(error, request_):
    with pytest.raises(error) as caught:
        inner.parse_request(request_)
    assert type(caught.value) is error


def test_a_json_content_type_with_a_parameter_is_json():
    request = with_fields(
        (b"content-type", b"application/json; charset=utf-8"), without=(b"content-type",)
    )
    assert inner.parse_request(request).body == b"{}"


@pytest.mark.parametrize("distance", [0, 300, -300])
def test_a_date_inside_the_window_is_taken(distance):
    inner.check_date(DATE + distance, DATE)


@pytest.mark.parametrize("distance", [301, -301, 10**9])
def test_a_date_outside_the_window_is_refused(distance):
    with pytest.raises(inner.DateOutsideWindow):
        inner.check_date(DATE + distance, DATE)


@given(st.integers(0, 253402300799))
def test_dates_are_those_of_the_standard_library(unix):
    value = inner.http_date(unix)
    assert inner.parse_http_date(value) == unix
    assert value.decode() == email.utils.formatdate(unix, usegmt=True)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Mon, 06 Nov 1994 08:49:37 GMT",  # it was a Sunday
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Wed, 31 Feb 2024 00:00:00 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:49:60 GMT",
        b"Wed, 31 Dec 1969 23:59:59 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"Sat, 00 Jan 0000 00:00:00 GMT",
    ],
)
def test_other_dates_are_malformed(value):
    with pytest.raises(Malformed):
        inner.parse_http_date(value)


@pytest.mark.parametrize("unix", [-1, 253402300800])
def test_a_date_that_cannot_be_written_is_refused(unix):
    with pytest.raises(ValueError, match="9999"):
        inner.http_date(unix)


def test_the_last_writable_second_is_the_last_of_9999():
    assert calendar.timegm((9999, 12, 31, 23, 59, 59)) == inner._LATEST


@given(st.binary(max_size=40))
def test_any_bytes_are_a_date_or_malformed(data):
    try:
        inner.parse_http_date(data)
    except Malformed:
        return


@given(st.data())
def test_a_mutated_inner_request_is_read_or_refused_by_name(data):
    encoded = bytearray(bhttp.encode_request(build(tokens=TOKENS[:2])))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        inner.parse_request(bhttp.decode_request(bytes(encoded)))
    except Malformed:
        return


def test_blinded_messages_come_with_as_many_tokens_and_in_no_other_number():
    for count in (1, 2, 4):
        blinded = BlindedMessages(7, tuple(bytes([n + 1]) * 256 for n in range(count)))
        request = build(tokens=TOKENS[:count], blinded=blinded)
        assert inner.parse_request(request).blinded == blinded
        for other in {1, 2, 4} - {count}:
            with pytest.raises(inner.BadBlinded):
                build(tokens=TOKENS[:other], blinded=blinded)
        with pytest.raises(inner.BadBlinded):
            build(tokens=(), blinded=blinded)
