"""Traces of relay and issuer say what is on the allow-list; a worker has none."""

import asyncio
import contextlib
import json
import re
from pathlib import Path

import httpx
import pytest
import surface
import typer.main
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from client.errors import InsecureUrl
from issuer.accounts import add_account
from issuer.app import IssuerConfig, application
from issuer.keys import KeyRing, create_key_file
from relay.app import create_app
from relay.config import RelayConfig
from sottovoce import traces
from sottovoce.commands import issuer as issuer_command
from sottovoce.commands import relay as relay_command
from sottovoce.commands import worker as worker_command
from sottovoce.traces import KEPT, OTHER, Span, Traced, encode, rounded_up, traced
from wire.token_life import KeyPeriod

ROOT = Path(__file__).parents[2]
COLLECTOR = "http://127.0.0.1:4318"
ADDRESS = "203.0.113.77"
CANARY = "canary-3307"
TRACE = "0af7651916cd43dd8448eb211c80319c"
NODE = "5e" * 32
HEADERS = {
    "authorization": f"Bearer {CANARY}",
    "user-agent": CANARY,
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    "x-forwarded-for": ADDRESS,
    "content-type": "message/ohttp-chunked-req",
}


class Collector:
    """Takes spans, and keeps what came over the wire."""

    def __init__(self):
        self.got = []

    def __call__(self, request):
        assert str(request.url) == f"{COLLECTOR}/v1/traces"
        self.got.append((dict(request.headers), request.content.decode()))
        return httpx.Response(200, json={})

    @property
    def spans(self):
        return [
            span
            for _, body in self.got
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


def attributes(span):
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


@contextlib.asynccontextmanager
async def living(app):
    """Run an application's lifespan around the block, as a server would."""
    asked, told = asyncio.Queue(), asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan", "state": {}}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    yield
    await asked.put({"type": "lifespan.shutdown"})
    assert (await told.get())["type"] == "lifespan.shutdown.complete"
    life.cancel()  # uvicorn waits no longer
    await asyncio.gather(life, return_exceptions=True)


def observe(app, requests, service="service"):
    """Send requests from one address; return the collector and the statuses."""
    collector = Collector()
    noted = Traced(app, service, COLLECTOR, httpx.MockTransport(collector))

    async def main():
        async with living(noted):
            transport = httpx.ASGITransport(
                noted, client=(ADDRESS, 50_505), raise_app_exceptions=False
            )
            async with httpx.AsyncClient(transport=transport, base_url="http://party") as http:
                answers = [await http.request(*line, headers=HEADERS, content=CANARY)
                           for line in requests]  # fmt: skip
        return [answer.status_code for answer in answers]

    return collector, asyncio.run(main())


RELAY_ASKED = [
    ("POST", f"/{NODE}?q={CANARY}"),
    ("GET", f"/tile/0/{CANARY}"),
    ("GET", "/nodes"),
    ("GET", f"/no/such/{CANARY}"),
    ("CANARY", "/health"),
    ("GET", "/health"),
]


@pytest.fixture
def relay():
    config = RelayConfig("127.0.0.1", 1, ("http://127.0.0.1:9",), "http://127.0.0.1:9")
    return observe(create_app(config), RELAY_ASKED, "sottovoce-relay")


@pytest.fixture
def issuer(tmp_path, monkeypatch):
    key, database = tmp_path / "key.pem", f"sqlite:///{tmp_path}/accounts"
    create_key_file(key, KeyPeriod(0, 2**33))
    monkeypatch.setitem(HEADERS, "authorization", f"Bearer {add_account(database, 5)}")
    config = IssuerConfig("127.0.0.1", 1, database, (key,), CANARY)
    app = application(config, KeyRing.from_files([key]))
    # The lifespan's state, which a server would hand on, is not needed for what is refused early.
    asked = [("POST", "/token-request"), ("GET", f"/refund/{CANARY}"),
             ("GET", "/.well-known/private-token-issuer-directory")]  # fmt: skip
    return observe(app, asked, "sottovoce-issuer")


@pytest.fixture(params=["relay", "issuer"])
def party(request):
    return request.getfixturevalue(request.param)


def test_no_span_has_an_address_a_token_an_account_or_a_path(party):
    collector, statuses = party
    assert len(collector.spans) == len(statuses)
    [(headers, body)] = collector.got
    secret = [ADDRESS, CANARY, CANARY.upper(), "50505", NODE, TRACE, "b7ad6b7169203331", "party",
              HEADERS["authorization"].split()[1]]  # fmt: skip
    for each in secret:
        assert each.lower() not in (body + json.dumps(headers)).lower(), each


def test_a_span_has_these_members_and_attributes_and_no_other(party):
    allowed = {"http.request.method", "http.route", "http.response.status_code"}
    for span in party[0].spans:
        assert set(attributes(span)) <= allowed
        assert span.keys() == {
            "traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano",
            "attributes", "status",
        }  # fmt: skip
        assert re.fullmatch(r"[0-9a-f]{32}", span["traceId"])
        assert re.fullmatch(r"[0-9a-f]{16}", span["spanId"])
    document = json.loads(party[0].got[0][1])
    [resource] = document["resourceSpans"]
    assert [each["key"] for each in resource["resource"]["attributes"]] == ["service.name"]


def test_every_attribute_is_documented():
    page = (ROOT / "docs" / "observability.md").read_text()
    section = page.partition("## Traces of relay and issuer\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    source = (ROOT / "sottovoce" / "traces.py").read_text()
    assert documented == set(re.findall(r'_attribute\(\s*"([^"]+)"', source))


def test_a_route_is_told_with_its_parameters_names(relay):
    told = {(attributes(span)["http.request.method"], attributes(span)["http.route"])
            for span in relay[0].spans}  # fmt: skip
    assert told == {
        ("POST", "/{node}"),
        ("GET", "/tile/{rest:path}"),
        ("GET", "/nodes"),
        ("GET", OTHER),
        (OTHER, "/health"),
        ("GET", "/health"),
    }


def test_times_are_a_full_minute_and_a_power_of_two(relay):
    for span in relay[0].spans:
        begin, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        assert begin % (60 * 10**9) == 0
        duration_ms, rest = divmod(end - begin, 10**6)
        assert rest == 0
        assert duration_ms.bit_count() == 1


@pytest.mark.parametrize(
    ("ms", "told"), [(0, 1), (0.2, 1), (1, 1), (1.1, 2), (2, 2), (3, 4), (900, 1024), (1025, 2048)]
)
def test_durations_are_rounded_up(ms, told):
    assert rounded_up(ms) == told


def test_spans_are_sent_in_an_order_that_says_nothing():
    spans = [Span("POST", "/{node}", 200, 7, ms) for ms in (8, 2, 4)]
    first, second = (
        [each["endTimeUnixNano"] for each in order["resourceSpans"][0]["scopeSpans"][0]["spans"]]
        for order in (encode("s", spans), encode("s", spans[::-1]))
    )
    assert first == second


def test_a_failure_tells_its_status_and_no_text():
    async def fails(_):
        raise ValueError(CANARY)

    collector, [status] = observe(Starlette(routes=[Route("/x", fails)]), [("GET", "/x")])
    [span] = collector.spans
    assert status == 500
    assert attributes(span)["http.response.status_code"] == "500"
    assert span["status"] == {"code": 2}
    assert CANARY not in collector.got[0][1]


def test_a_collector_that_is_away_costs_the_spans_and_nothing_else(monkeypatch):
    monkeypatch.setattr(traces, "KEPT", 2)

    def away(_):
        raise httpx.ConnectError("nobody")

    async def fine(_):
        return PlainTextResponse("fine")

    noted = Traced(Starlette(routes=[Route("/x", fine)]), "s", COLLECTOR, httpx.MockTransport(away))

    async def main():
        transport = httpx.ASGITransport(noted)
        async with httpx.AsyncClient(transport=transport, base_url="http://party") as http:
            answers = [(await http.get("/x")).text for _ in range(3)]
        kept = len(noted._spans)
        await noted.send()
        return answers, kept, len(noted._spans)

    assert asyncio.run(main()) == (["fine"] * 3, 2, 0)
    assert KEPT > 2


def test_spans_are_not_sent_in_clear_across_a_network():
    with pytest.raises(InsecureUrl):
        traced("s", "http://192.0.2.1:4318")


def test_nothing_is_put_around_without_a_collector():
    app = Starlette()
    assert traced("s", None)(app) is app


def test_a_worker_has_no_such_option_and_relay_and_issuer_have():
    def asks(command):
        found = surface.options(typer.main.get_command(command.app))
        return any("trace" in name for _, names in found for name in names)

    assert asks(relay_command)
    assert asks(issuer_command)
    assert not asks(worker_command)


@pytest.mark.parametrize("folder", ["server", "engine", "client", "transparency", "attestation"])
def test_no_other_party_can_trace(folder):
    for path in (ROOT / folder).rglob("*.py"):
        source = path.read_text()
        assert "opentelemetry" not in source.lower(), path
        assert "/v1/traces" not in source, path
