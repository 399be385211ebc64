"""docs/observability.md lists all that a worker and a proxy ever tell, and nothing else.

Nor does the dashboard ask for anything else.
"""

import asyncio
import dataclasses
import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as families
from simulator import ACCOUNT_KEY, World

from attestation.verifier.policy import ClientPolicy
from client import metrics as proxy_metrics
from client.proxy import Proxy, ProxyConfig
from server import logs
from server.messages import Admission, Marking, Spending
from server.metrics import STATUSES, Metrics
from wire.refund import REFUSED

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "observability.md").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "sottovoce.json").read_text())


def rows(title):
    """Cells of each row of the table under a title, without its head."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def documented(title):
    """Metric to its label (or none) and that label's documented values."""
    found = {}
    for metric, labels, *_ in rows(title):
        label, *values = names(labels) or [None]
        found[names(metric)[0]] = (label, set(values))
    return found


def told(text):
    """The same, of Prometheus' text."""
    found = {}
    for family in families(text):
        for sample in family.samples:
            label, value = next(iter(sample.labels.items()), (None, None))
            assert len(sample.labels) <= 1
            values = found.setdefault(sample.name, (label, set()))[1]
            values.update([] if value is None else [value])
    return found


def test_every_event_is_listed_with_its_fields_and_no_other():
    listed = {names(event)[0]: names(fields) for event, fields, *_ in rows("Events of a worker")}
    events = logs.Event.__subclasses__()
    assert listed == {
        event.__name__: [field.name for field in dataclasses.fields(event)] for event in events
    }


def test_an_events_meaning_is_that_of_the_code():
    for event, _, meaning, cannot in rows("Events of a worker"):
        assert meaning == getattr(logs, names(event)[0]).__doc__.splitlines()[0]
        assert cannot


def everything(metrics):
    """Make each thing happen that a front counts."""
    for status in STATUSES:
        metrics.answered(status)
    metrics.cut()
    for marking in Marking:
        metrics.marked(marking)
    for admission in Admission:
        metrics.admission(admission)
    for spending in Spending:
        metrics.spent(spending)
    metrics.refunded([REFUSED, b"signature"])
    return metrics


def test_every_metric_of_a_worker_is_listed_with_all_its_labels_and_no_other():
    assert documented("Metrics of a worker") == told(everything(Metrics()).encode().decode())


@pytest.fixture
def gauges(tmp_path):
    config = ProxyConfig(
        World().trust(), ClientPolicy(), "http://127.0.0.1:1", "http://127.0.0.1:1", ACCOUNT_KEY,
        tmp_path,
    )  # fmt: skip

    async def look():
        proxy = Proxy(config)
        gauges = proxy.gauges()
        await proxy.http.aclose()
        return gauges

    return asyncio.run(look())


def test_every_metric_of_the_proxy_is_listed_and_no_other(gauges):
    found = told(proxy_metrics.write(gauges, {200: 1}))
    assert found.pop("sottovoce_proxy_answers_total") == ("status", {"200"})
    listed = documented("Metrics of the proxy")
    assert listed.pop("sottovoce_proxy_answers_total") == ("status", set())
    assert listed == found


def test_every_row_says_what_it_cannot_tell():
    for title in ("Metrics of a worker", "Metrics of the proxy"):
        for _, _, meaning, cannot in rows(title):
            assert meaning
            assert cannot


def expressions(panels):
    for panel in panels:
        yield from (target["expr"] for target in panel.get("targets", ()))


def known():
    return {**documented("Metrics of a worker"), **documented("Metrics of the proxy")}


@pytest.mark.parametrize("expression", list(expressions(DASHBOARD["panels"])))
def test_the_dashboard_asks_for_metrics_and_labels_that_there_are(expression):
    asked = re.findall(r"\b(sottovoce_\w+)(?:\{([^}]*)\})?", expression)
    assert asked
    for metric, selector in asked:
        label, values = known()[metric]
        for name, wanted in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            assert name in {"job", label}
            if name == label:
                assert set(wanted.split("|")) <= values
    for grouped in re.findall(r"by \((\w+)\)", expression):
        assert grouped in {"instance", *(known()[metric][0] for metric, _ in asked)}


def test_the_dashboard_is_one_that_grafana_takes():
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval"}
    assert used == variables
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, "Grafana's grid has 24 columns"


def test_no_two_panels_lie_on_each_other():
    taken = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))


def test_a_party_without_metrics_serves_none():
    for party in ("relay", "issuer", "transparency"):
        for path in (ROOT / party).rglob("*.py"):
            assert "/metrics" not in path.read_text(), path
