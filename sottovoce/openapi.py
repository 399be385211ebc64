"""The OpenAPI document of what a caller sees: the proxy, and a worker's direct port.

    python -m sottovoce.openapi > docs/openapi.json

The requests are the models that a worker validates with, so the document says what is taken and
what is refused. An answer is OpenAI's with `attestation` in it; an error has one form everywhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.openai.response_schemas import ResponsesRequest
from server.openai.schemas import ChatRequest, CompletionRequest
from server.openai.tokenization import DetokenizeRequest, TokenizeRequest

Json = dict[str, Any]

POSTS: Mapping[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatRequest, "OpenAI's chat completions, with `attestation`."),
    "/v1/completions": (CompletionRequest, "OpenAI's completions, with `attestation`."),
    "/v1/responses": (ResponsesRequest, "OpenAI's responses, without state, with `attestation`."),
    "/tokenize": (TokenizeRequest, "Text to token ids."),
    "/detokenize": (DetokenizeRequest, "Token ids to text."),
    "/v1/tokenize": (TokenizeRequest, "Text to token ids."),
    "/v1/detokenize": (DetokenizeRequest, "Token ids to text."),
}
"""What is answered by a worker. The first five a direct port serves as well."""

STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")

GETS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "/v1/models": ("The models of the verified nodes; costs no token.", ("application/json",)),
    "/v1/models/{model}": ("One of them.", ("application/json",)),
    "/v1/attestation": (
        "A node quoted over `nonce`, 64 hex digits; of the proxy also `node`, its name.",
        ("application/json", "application/cmw+cbor", "application/octet-stream"),
    ),
    "/verification": ("The proxy's verdicts on every node.", ("application/json",)),
    "/verification/{request_id}": (
        "What the proxy knows of one request's way.",
        ("application/json",),
    ),
    "/health": ("Whether a completion would find a node and a token.", ("application/json",)),
    "/metrics": ("The proxy's counts, for Prometheus.", ("text/plain",)),
}

ERRORS: Mapping[int, str] = {
    400: "The request is refused, and why.",
    401: "Of a direct port: the API key is not known.",
    404: "There is nothing at this path, or no such model.",
    405: "The path does not take this method.",
    413: "The body is too large.",
    429: "No token in stock.",
    500: "The engine gave up, or a failure that nobody foresaw.",
    502: "What came back is no answer, or must not be believed.",
    503: "No node, no issuer, no room; or not yet.",
    504: "Nothing came from the relay for too long.",
}
_ERROR = "#/components/schemas/Error"
_ATTESTATION = "#/components/schemas/Attestation"


def document() -> Json:
    """Build the document."""
    models = sorted({model for model, _ in POSTS.values()}, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sottovoce",
            "version": "1",
            "summary": "What the local proxy serves, and a worker's direct port.",
        },
        "paths": {
            **{path: {"post": _post(path, *posted)} for path, posted in POSTS.items()},
            **{path: {"get": _get(path, *got)} for path, got in GETS.items()},
        },
        "components": {
            "schemas": {**schemas["$defs"], "Error": _error(), "Attestation": _attestation()},
            "securitySchemes": {"direct": {"type": "http", "scheme": "bearer"}},
        },
    }


def _post(path: str, model: type[BaseModel], text: str) -> Json:
    answer = {"type": "object", "properties": {"attestation": {"$ref": _ATTESTATION}}}
    content: Json = {"application/json": {"schema": answer}}
    if path in STREAMED:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    body = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "summary": text,
        "security": [{}, {"direct": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": "The answer.", "content": content}, **_errors()},
    }


def _get(path: str, text: str, types: tuple[str, ...]) -> Json:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [_parameter(name, "path", {"minLength": 1}) for name in names]
    if path == "/v1/attestation":
        digest = {"pattern": "^[0-9a-f]{64}$"}
        parameters += [_parameter(name, "query", digest) for name in ("node", "nonce")]
    answer = {"description": "The answer.", "content": {each: {} for each in types}}
    return {
        "summary": text,
        **({"parameters": parameters} if parameters else {}),
        "responses": {"200": answer, **_errors()},
    }


def _parameter(name: str, where: str, schema: Json) -> Json:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": {"type": "string", **schema},
    }


def _errors() -> Json:
    schema = {"application/json": {"schema": {"$ref": _ERROR}}}
    return {
        str(status): {"description": text, "content": schema} for status, text in ERRORS.items()
    }


def _error() -> Json:
    said = {"type": ["string", "null"]}
    names = ("message", "type", "param", "code")
    error = {
        "type": "object",
        "properties": {name: {"type": "string"} if name == "message" else said for name in names},
        "required": list(names),
        "additionalProperties": False,
    }
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def _attestation() -> Json:
    names = ("receipt", "salts", "quote", "node", "platform", "verification")
    return {
        "type": ["object", "null"],
        "description": "The receipt, what it binds, and each step of its verification.",
        "required": list(names),
        "properties": {name: {} for name in names},
    }


def text() -> str:
    """Write the document as it stands in `docs/openapi.json`."""
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
