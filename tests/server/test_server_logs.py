"""The log is an allow-list: typed events, and no way round them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing

import pytest

from server import logs
from server.logs import FIELD_TYPES, CodeName, Event, NodeName, Role, RoleFailed

EVENTS = Event.__subclasses__()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_no_event_has_a_field_for_text(event):
    assert set(typing.get_type_hints(event).values()) <= set(FIELD_TYPES)
    assert str not in FIELD_TYPES


@pytest.mark.parametrize(
    "value", ["a sentence", "canary prompt", "", "x" * 101, "a\nb", "1abc", "über"]
)
def test_a_code_name_has_no_room_for_a_sentence(value):
    with pytest.raises(ValueError, match="not a name out of code"):
        CodeName(value)


@pytest.mark.parametrize("value", ["AB" * 32, "ab" * 31, "zz" * 32, "ab" * 32 + "\n"])
def test_a_node_name_is_a_digest(value):
    with pytest.raises(ValueError, match="not a node's name"):
        NodeName(value)


def test_only_events_with_fields_of_their_types_can_be_logged():
    with pytest.raises(TypeError):
        logs.emit("canary prompt")
    with pytest.raises(TypeError):
        logs.emit(RoleFailed(Role.FRONT, "canary prompt", CodeName("x")))


def test_an_event_is_one_json_line():
    read, write = os.pipe()
    try:
        logs.log_to(write)
        logs.emit(logs.RoleEnded(Role.ENGINE, -9))
    finally:
        logs.log_to(2)
        os.close(write)
    line = os.read(read, 1000)
    os.close(read)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    members = json.loads(line)
    assert {k: v for k, v in members.items() if k != "at"} == {
        "event": "RoleEnded",
        "role": "engine",
        "code": -9,
    }


def test_the_description_of_a_failure_has_its_class_and_place_and_none_of_its_text():
    try:
        raise ValueError("canary prompt")  # noqa: TRY301
    except ValueError as error:
        event = logs.failure(Role.KEEPER, error)
    assert event.error == "ValueError"
    assert "canary" not in event.where


SILENCED = """
import logging, sys, threading, warnings
from server.logs import Role, silence
silence(Role.FRONT)
logging.getLogger("uvicorn.error").error("canary logging %s", "canary")
logging.warning("canary root")

class Canary:
    def __del__(self):
        raise ValueError("canary unraisable")

Canary()
thread = threading.Thread(target=lambda: 1 / int("0canary"))
thread.start()
thread.join()
raise RuntimeError("canary " + "exception")
"""


def test_a_silenced_process_has_no_other_way_to_say_anything():
    ran = subprocess.run(
        [sys.executable, "-c", SILENCED], capture_output=True, text=True, check=False
    )
    assert ran.stdout == ""
    assert "canary" not in ran.stderr.replace("Canary", "")
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [(event["event"], event["error"]) for event in events] == [
        ("RoleFailed", "ValueError"),
        ("RoleFailed", "ValueError"),
        ("RoleFailed", "RuntimeError"),
    ]
