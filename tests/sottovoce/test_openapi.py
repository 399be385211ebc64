"""`docs/openapi.json` is what the code serves."""

import re
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from client import proxy
from server.openai.schemas import ChatRequest
from sottovoce import openapi

DOCS = Path(__file__).parents[2] / "docs"
DRAWN_FOR_PEOPLE = {"/", "/page.css", "/page.js", "/page.svg"}


def test_the_document_is_written_from_the_code():
    """If not: `python -m sottovoce.openapi > docs/openapi.json`, and look at the difference."""
    assert (DOCS / "openapi.json").read_text() == openapi.text()


def test_every_route_of_the_proxy_is_in_it_with_its_method():
    served = {
        (re.sub(r":path}", "}", route.path), method.lower())
        for route in proxy.routes.routes
        if isinstance(route, APIRoute) and route.path not in DRAWN_FOR_PEOPLE
        for method in route.methods
    }
    written = openapi.document()["paths"]
    assert served == {(path, method) for path, item in written.items() for method in item}


def test_every_status_of_an_error_is_in_it():
    table = (DOCS / "reference.md").read_text()
    rows = re.findall(r"^\| `[a-z_]+` \| (\d{3}) \|", table, re.MULTILINE)
    assert set(map(int, rows)) == openapi.ERRORS.keys()


def test_a_changed_model_changes_it(monkeypatch):
    """The comparison above can fail."""

    class Changed(ChatRequest):
        new_member: bool = False

    before = openapi.text()
    posts = {**openapi.POSTS, "/v1/chat/completions": (Changed, "As before.")}
    monkeypatch.setattr(openapi, "POSTS", posts)
    assert openapi.text() != before


@pytest.mark.parametrize("path", sorted(openapi.document()["paths"]))
def test_all_that_it_refers_to_is_in_it(path):
    found = openapi.document()
    names = set(re.findall(r"#/components/schemas/(\w+)", str(found["paths"][path])))
    assert names <= found["components"]["schemas"].keys()
    assert all(httpx.codes.is_error(int(s)) for s in map(str, openapi.ERRORS))
