"""The application a capsule asks: bytes of a request in, a plan out.

    POST /v1/chat/completions    chat.py
    POST /v1/completions         completions.py
    POST /v1/responses           responses.py
    GET  /v1/models[/{id}]       models.py
    POST /tokenize, /detokenize  tokenization.py

Built once in the zygote, where it loads tokenizer, chat template and grammar tables, and used once
in each capsule forked from it. It starts no thread, imports no torch and holds no request.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import unquote

from engine.connection import EngineConnection
from server.openai import grammar
from server.openai.chat import plan_chat
from server.openai.completions import plan_completion
from server.openai.errors import ApiError, UnknownModel, UnknownPath, WrongMethod, unforeseen
from server.openai.json_text import decode_object
from server.openai.model import LoadedModel, ServedModel
from server.openai.models import DocumentPlan, model_object
from server.openai.outputs import Plan
from server.openai.response_schemas import ResponsesRequest
from server.openai.responses import plan_response
from server.openai.schemas import ChatRequest, CompletionRequest, ModelFields
from server.openai.tokenization import (
    DetokenizeRequest,
    TokenizeRequest,
    plan_detokenize,
    plan_tokenize,
)
from server.openai.validation import parse
from wire import unserved

__all__ = ["Application", "ServedModel"]

Request = TypeVar("Request", bound=ModelFields)

_MODEL = "/v1/models/"


class Application:
    """The OpenAI endpoints over one served model.

    `clock` is asked only by chat templates that print the date.

    Raises:
        UnusableModel: the model's folder lacks what the endpoints need.
    """

    def __init__(self, model: ServedModel, clock: Callable[[], float] = time.time) -> None:
        self._model = LoadedModel.load(model, clock)
        self._routes: Mapping[str, tuple[str, Callable[[bytes], Plan]]] = {
            "/v1/chat/completions": ("POST", self._post(ChatRequest, plan_chat)),
            "/v1/completions": ("POST", self._post(CompletionRequest, plan_completion)),
            "/v1/responses": ("POST", self._post(ResponsesRequest, plan_response)),
            "/tokenize": ("POST", self._post(TokenizeRequest, plan_tokenize)),
            "/detokenize": ("POST", self._post(DetokenizeRequest, plan_detokenize)),
            "/v1/models": ("GET", lambda _: self._models()),
        }
        self._warm()

    def _warm(self) -> None:
        """Touch what is built on first use, so that every capsule inherits it built."""
        tokenizer = self._model.tokenizer
        tokenizer.encode("warm")
        grammar.schema_constraint(tokenizer, grammar.ANY_OBJECT, strict=False).start().mask()

    def prepare(self, method: bytes, path: bytes, body: bytes) -> Plan:
        """Parse, validate, render and tokenise a request; does no engine work.

        Raises:
            ApiError: the request is refused. No text of it quotes the request.
        """
        try:
            return self._route(method, path)(body)
        except ApiError:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # A decision: whatever else fails here (a tokenizer, a grammar, too deep a recursion)
            # holds the request, and may quote it. What leaves says only that it failed.
            raise unforeseen(error) from None

    def rehearse(self, engine: EngineConnection) -> None:
        """Answer a made-up chat, in a capsule that waits for its request.

        What that touches it copies (`server.rehearsal`), and the request need not wait for it.
        """
        message = {"role": "user", "content": "A made-up question, in a few words."}
        chat = {"model": self._model.served.name, "messages": [message], "stream": True}
        with contextlib.suppress(ApiError):  # a model without a chat template
            plan = self.prepare(b"POST", b"/v1/chat/completions", json.dumps(chat).encode())
            for _ in plan.run(engine, lambda: 0, 0):
                pass

    def _route(self, method: bytes, path: bytes) -> Callable[[bytes], Plan]:
        name = path.partition(b"?")[0].decode("ascii", errors="replace")
        allowed, handler = self._routes.get(name, (None, None))
        if handler is None and name.startswith(_MODEL):
            allowed, handler = "GET", lambda _: self._one_model(unquote(name[len(_MODEL) :]))
        if allowed is None or handler is None:
            raise UnknownPath(unserved.reason(name))
        if method != allowed.encode():
            raise WrongMethod(allowed, unserved.reason(name))
        return handler

    def _post(
        self, kind: type[Request], plan: Callable[[LoadedModel, Request], Plan]
    ) -> Callable[[bytes], Plan]:
        return lambda body: plan(self._model, self._read(kind, body))

    def _read(self, kind: type[Request], body: bytes) -> Request:
        request = parse(kind, decode_object(body))
        if request.model != self._model.served.name:
            raise UnknownModel
        return request

    def _models(self) -> Plan:
        return DocumentPlan({"object": "list", "data": [model_object(self._model.served)]})

    def _one_model(self, name: str) -> Plan:
        if name != self._model.served.name:
            raise UnknownModel
        return DocumentPlan(model_object(self._model.served))
