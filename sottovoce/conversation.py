"""A conversation of several turns, kept in memory and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
from pydantic import ValidationError

from client import sse
from client.errors import ClientError
from sottovoce.failures import Answered
from sottovoce.sdk.attestation import Attestation
from sottovoce.way import check, fetch


class BrokeOff(ClientError):
    """The answer ended before its end."""

    code = "broke_off"


class NoModel(ClientError):
    """No model is served now."""

    code = "no_model"


class Conversation:
    """Asks turn after turn; each question goes with all that was said before.

    `attestation` is that of the last answer, or None before one is complete.
    """

    def __init__(self, client: httpx.Client, *, model: str | None, system: str | None) -> None:
        """Begin; without a model, with the first that is served.

        Raises:
            NoModel: none is.
            ClientError: the models cannot be had.
        """
        self.model = model or first_model(client)
        self.attestation: Attestation | None = None
        self._client = client
        self._first = [{"role": "system", "content": system}] if system else []
        self._said: list[dict[str, str]] = []

    def forget(self) -> None:
        """Begin anew."""
        self._said = []

    def ask(self, text: str, *, max_tokens: int | None = None) -> Iterator[str]:
        """Yield the answer as it comes; it counts as said only once it is complete and verified.

        Raises:
            ClientError: there is no answer, or none that is to be believed.
        """
        self.attestation = None
        said = [*self._said, {"role": "user", "content": text}]
        answer = ""
        for delta in self._stream([*self._first, *said], max_tokens):
            answer += delta
            yield delta
        self._said = [*said, {"role": "assistant", "content": answer}]

    def _stream(self, messages: list[dict[str, str]], max_tokens: int | None) -> Iterator[str]:
        body = {"model": self.model, "stream": True, "messages": messages}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        asked = self._client.stream("POST", "/v1/chat/completions", json=body)
        try:
            with asked as response:
                if not response.is_success:
                    response.read()
                    check(response)
                yield from self._deltas(response)
        except httpx.ConnectError:
            raise
        except httpx.HTTPError:
            raise BrokeOff("the answer broke off") from None

    def _deltas(self, response: httpx.Response) -> Iterator[str]:
        parser = sse.EventParser()
        for data in response.iter_bytes():
            for payload in parser.feed(data):
                if payload == sse.DONE:
                    return
                yield self._delta(payload)
        raise BrokeOff("the answer ended before its end")

    def _delta(self, payload: bytes) -> str:
        try:
            chunk: dict[str, Any] = json.loads(payload)
            if (error := chunk.get("error")) is not None:
                raise Answered(str(error["message"]), error.get("code"))
            if (written := chunk.get("attestation")) is not None:
                self.attestation = Attestation.model_validate(written)
            choices = chunk["choices"]
            return str(choices[0]["delta"].get("content") or "") if choices else ""
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
            raise BrokeOff("what answers is no sottovoce proxy") from None


def first_model(client: httpx.Client) -> str:
    """Return the first model that is served.

    Raises:
        NoModel: none is.
    """
    models = fetch(client, "/v1/models")["data"]
    if not models:
        raise NoModel("no verified node serves any model now")
    return str(models[0]["id"])
