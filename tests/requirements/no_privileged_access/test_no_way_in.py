"""What a worker offers to whoever runs it: counted, and nothing of it looks at a request."""

from __future__ import annotations

import inspect
import json
import re
import signal
import typing

import httpx
import pytest
import typer.main

from server import front, logs
from server.config import WorkerConfig
from server.logs import CodeName, Event, NodeName
from server.metrics import STATUSES, Metrics
from sottovoce.commands import worker as command

EVENTS = {
    "WorkerStarting", "RoleStarted", "RoleConfined", "RoleNotConfined", "RoleEnded", "RoleFailed",
    "ModelLoading", "EngineReady", "PlatformFound", "EvidenceRefused", "NeighbourWaited",
    "LeafNotTaken", "IssuerKeysChanged", "GenerationListed", "GenerationErased", "WorkerReady",
    "WorkerStopping", "CapsuleCrashed", "AcceleratorSuspect",
}  # fmt: skip
OPTIONS = {
    "model", "name", "trust", "log", "issuer", "spent", "port", "host", "platform", "platform_key",
    "platform_endorsement", "collateral", "adapter", "tensor_parallel", "device", "weights",
    "speculation", "draft", "kv_truncation", "kv_offload", "verification", "upstream",
    "upstream_kind", "upstream_model", "accept", "direct", "direct_keys", "index", "event_tick_ms",
    "help",
}  # fmt: skip
ROUTES = {"/gateway", "/health", "/ohttp-keys", "/metrics"}
METRICS = {
    "sottovoce_requests": {"status"}, "sottovoce_responses_cut": set(),
    "sottovoce_marks": {"marking"}, "sottovoce_admissions": {"admission"},
    "sottovoce_spends": {"spending"}, "sottovoce_refunds": {"outcome"},
    "sottovoce_capsules_in_use": set(), "sottovoce_requests_admitted": set(),
}  # fmt: skip
WAYS_IN = re.compile(
    r"debug|log.?level|verbos|profil|trace|reload|admin|shell|exec|inspect|dump|repl|attach|pdb",
    re.IGNORECASE,
)
CANARY = "aubergine-moon-7341 sings"


def test_the_list_of_events_is_the_one_that_was_looked_at():
    """Whoever adds an event has to come here, and say so."""
    assert {event.__name__ for event in Event.__subclasses__()} == EVENTS
    assert not [deeper for event in Event.__subclasses__() for deeper in event.__subclasses__()]


@pytest.mark.parametrize("event", Event.__subclasses__(), ids=lambda event: event.__name__)
def test_no_event_carries_a_prompt(event, capfd):
    """Each field is tried with the canary: as it is, and by way of the names that are texts."""
    for name in typing.get_type_hints(event):
        carried = {field: _harmless(kind) for field, kind in typing.get_type_hints(event).items()}
        with pytest.raises((TypeError, ValueError)):
            logs.emit(event(**carried | {name: CANARY}))
        for text in (CodeName, NodeName):
            with pytest.raises(ValueError, match="not a n"):
                logs.emit(event(**carried | {name: text(CANARY)}))
    assert capfd.readouterr().err == ""


def _harmless(kind):
    texts = {CodeName: CodeName("x"), NodeName: NodeName("ab" * 32)}
    if kind in texts:
        return texts[kind]
    return next(iter(kind)) if hasattr(kind, "__members__") else kind()


def test_the_options_of_a_worker_are_these():
    options = {each.name for each in typer.main.get_command(command.app).params}
    assert options | {"help"} == OPTIONS
    assert not [name for name in OPTIONS if WAYS_IN.search(name)]


def test_its_configuration_has_no_switch_for_looking_in():
    assert not [name for name in typing.get_type_hints(WorkerConfig) if WAYS_IN.search(name)]


def test_the_routes_of_the_front_are_these():
    source = inspect.getsource(front.Front.application)
    assert set(re.findall(r'Route\("([^"]+)"', source)) == ROUTES
    assert source.count("Route(") == len(ROUTES)


def test_the_metrics_are_these_and_their_labels_are_of_fixed_lists():
    found = {
        metric.name: {label for sample in metric.samples for label in sample.labels}
        for metric in Metrics()._registry.collect()
    }
    assert found.keys() == METRICS.keys()
    assert all(labels <= METRICS[name] for name, labels in found.items())
    with pytest.raises(KeyError):
        Metrics().answered(299)
    assert 299 not in STATUSES


PATHS = [
    "/", "/docs", "/openapi.json", "/redoc", "/debug", "/debug/pprof", "/debug/vars", "/admin",
    "/config", "/env", "/reload", "/shutdown", "/quit", "/log", "/logs", "/loglevel", "/profile",
    "/start_profile", "/stop_profile", "/trace", "/dump", "/heap", "/stack", "/threads", "/sleep",
    "/wake_up", "/collective_rpc", "/server_info", "/v1/models", "/v1/completions", "/ping",
    "/version", "/tokenize", "/slots", "/state", "/cache", "/reset_prefix_cache",
    "/metrics/", "/.env",
]  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "DEBUG")


@pytest.fixture(scope="module")
def worker(module_worker):
    return module_worker


def test_there_is_nothing_behind_any_other_path_or_method(worker):
    with httpx.Client(base_url=worker.url, trust_env=False) as client:
        for path in PATHS:
            assert client.get(path).status_code == 404, path
            assert client.post(path, content=CANARY).status_code == 404, path
        for path in sorted(ROUTES - {"/gateway"}):
            for method in METHODS:
                if method != "GET":
                    assert client.request(method, path).status_code in {400, 404, 405}, (
                        method,
                        path,
                    )


def test_nothing_but_the_front_listens(worker):
    """Neither a debugger nor a profiler has a port, on any address, in any role."""
    inodes = {
        link.removeprefix("socket:[").removesuffix("]")
        for pid in worker.everybody()
        for link in worker.descriptors(pid)
        if link.startswith("socket:")
    }
    listening = [line for line in _tcp() if line[3] == "0A" and line[9] in inodes]
    ports = {int(line[1].rpartition(":")[2], 16) for line in listening}
    assert ports == {httpx.URL(worker.url).port}


def _tcp():
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}", encoding="ascii") as table:  # noqa: PTH123 - of the kernel
            yield from (line.split() for line in list(table)[1:])


SAID = (
    {"fail": "stderr"},
    {"fail": "prepare"},
    {"fail": "run"},
    {"fail": "midstream", "stream": True},
)
ENDS = {"fail": "exit"}, {"fail": "midexit", "stream": True}


@pytest.mark.parametrize("order", [{}, {"invalid": True}, *SAID, *ENDS], ids=str)
def test_no_way_to_end_tells_what_was_asked(worker, order):
    """Answers, refusals, exceptions, native writes, dead processes: log, metrics and headers."""
    sent = worker.encapsulate({"prompt": CANARY, **order}, tokens=(worker.draw(),))
    try:
        answer = worker.post_raw(sent.encapsulated, sent.media_type)
        told = str(answer.status_code) + json.dumps(dict(answer.headers)) + answer.reason_phrase
    except httpx.HTTPError as error:
        told = str(error)
    told += worker.metrics() + (worker.folder / "worker.log").read_text()
    for piece in (CANARY, "aubergine", "7341", CANARY.encode().hex()):
        assert piece not in told
    for line in worker.log_lines:
        assert line["event"] in EVENTS


@pytest.mark.parametrize("number", ["SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGWINCH"])
def test_no_signal_makes_a_capsule_or_a_keeper_say_anything(worker, number):
    """No faulthandler, no stack dump, no reload: a signal ends a role, or nothing."""
    for pid in {worker.pid("keeper"), worker.pid("front"), *worker.capsules()}:
        caught = next(
            int(line.split()[1], 16)
            for line in worker.status(pid).splitlines()
            if line.startswith("SigCgt:")
        )
        assert not caught >> (getattr(signal, number) - 1) & 1
