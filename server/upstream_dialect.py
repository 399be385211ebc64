"""What other engines are asked, and what they answer: OpenAI's completions, in three dialects.

    vllm     takes and returns token ids; all sampling parameters; log-probabilities; a cache salt
    sglang   takes token ids, returns text; all sampling parameters; a cache salt
    openai   takes and returns text; temperature, top_p, seed and a length. Whatever else is asked
             for is refused, since such servers pass much over in silence

The salt is 32 random bytes for each sequence, in base64url: whatever prefix cache the other engine
has, nothing in it fits another request. `openai` knows no such thing.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from engine.types import FinishReason, Logprobs, SamplingParams
from server.errors import ServerError
from server.openai.sampling import Defaults

SALT_BYTES = 32
_SEED_BITS = {True: 63, False: 31}
"""vLLM and SGLang take signed 64-bit seeds; plain servers may hand theirs to numpy."""
_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_ID = "token_id:"
_DONE = b"[DONE]"
_NOT_AN_EVENT = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a stranger's JSON as an event may raise."""


class UpstreamFailed(ServerError):
    """The other engine refused, failed, or answered something else than completions."""


class Unsupported(ServerError):
    """The other engine is not known to honour what is asked for."""


@dataclass(frozen=True)
class Dialect:
    """What one kind of engine is known to do.

    Attributes:
        takes_ids: prompts may be token ids.
        returns_ids: generated ids come with the text, and log-probabilities by ids.
        extended: parameters beyond OpenAI's, and a salt for the prefix cache.
    """

    takes_ids: bool
    returns_ids: bool
    extended: bool


DIALECTS = {
    "vllm": Dialect(takes_ids=True, returns_ids=True, extended=True),
    "sglang": Dialect(takes_ids=True, returns_ids=False, extended=True),
    "openai": Dialect(takes_ids=False, returns_ids=False, extended=False),
}


@dataclass(frozen=True)
class Delta:
    """One event of a stream."""

    text: str
    ids: tuple[int, ...]
    """Empty where the dialect returns none."""
    logprobs: tuple[Logprobs, ...]
    """For each id, if they were asked for."""
    finish: FinishReason | None


def request_fields(
    dialect: Dialect, params: SamplingParams, salt: bytes, defaults: Defaults
) -> dict[str, Any]:
    """Return what a request for one streamed completion holds beside model and prompt.

    Args:
        dialect: of the engine that is asked.
        params: of the sequence.
        salt: SALT_BYTES random bytes.
        defaults: the model's own, which a server without further parameters applies by itself.

    Raises:
        Unsupported: something is asked for that the dialect does not have.
    """
    if params.constrained or params.prompt_logprobs >= 0:
        raise Unsupported("grammars and the log-probabilities of prompts need our own engine")
    if params.logprobs >= 0 and not dialect.returns_ids:
        raise Unsupported("log-probabilities are told by ids, which this engine does not return")
    fields = {
        "stream": True,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": params.seed & ((1 << _SEED_BITS[dialect.extended]) - 1),
    }
    if dialect.extended:
        fields |= _further(params) | {"cache_salt": base64.urlsafe_b64encode(salt).decode()}
    elif not _plain(params, defaults):
        raise Unsupported("a parameter that plain servers may pass over in silence")
    if dialect.returns_ids:
        fields |= {"return_token_ids": True, "skip_special_tokens": False}
        if params.logprobs >= 0:
            fields |= {"logprobs": params.logprobs, "return_tokens_as_token_ids": True}
    return fields


def _further(params: SamplingParams) -> dict[str, Any]:
    """Return every parameter beyond OpenAI's, also where it changes nothing.

    Left out they would be the other engine's defaults, which may come from the model's folder.
    """
    return {
        "top_k": params.top_k or -1,
        "min_p": params.min_p,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
        "repetition_penalty": params.repetition_penalty,
        "logit_bias": {str(token): bias for token, bias in params.logit_bias},
        "min_tokens": params.min_tokens,
        "ignore_eos": params.ignore_eos,
        "stop_token_ids": [] if params.ignore_eos else list(params.eos_ids),
    }


def _plain(params: SamplingParams, defaults: Defaults) -> bool:
    """Whether nothing but temperature, top_p, seed and length is asked for."""
    return (
        params.top_k in (0, defaults.top_k)
        and params.min_p in (0.0, defaults.min_p)
        and params.repetition_penalty in (1.0, defaults.repetition_penalty)
        and not (params.frequency_penalty or params.presence_penalty or params.logit_bias)
        and not (params.ignore_eos or params.min_tokens)
    )


def parse_event(dialect: Dialect, data: bytes) -> Delta | None:
    """Read the payload of one event; None if it says nothing about the completion.

    Raises:
        UpstreamFailed: an error, or not an event of a completion.
    """
    if data == _DONE:
        return None
    try:
        event = json.loads(data)
        choices = event["choices"]
        return _delta(dialect, choices[0]) if choices else None
    except _NOT_AN_EVENT:
        # No word of what came: it may quote the request.
        raise UpstreamFailed("an event that is none of a completion") from None


def _delta(dialect: Dialect, choice: dict[str, Any]) -> Delta:
    finish = choice.get("finish_reason")
    ids = tuple(map(int, choice.get("token_ids") or ())) if dialect.returns_ids else ()
    logprobs = _logprobs(choice["logprobs"]) if choice.get("logprobs") else ()
    if finish is not None and finish not in _FINISH:
        raise UpstreamFailed("the other engine gave the completion up")
    return Delta(
        text=str(choice.get("text") or ""),
        ids=ids,
        logprobs=logprobs,
        finish=None if finish is None else _FINISH[finish],
    )


def _logprobs(members: dict[str, Any]) -> tuple[Logprobs, ...]:
    chosen = map(float, members["token_logprobs"])
    tops = members.get("top_logprobs") or [None] * len(members["token_logprobs"])
    return tuple(Logprobs(one, _top(top or {})) for one, top in zip(chosen, tops, strict=True))


def _top(members: dict[str, float]) -> tuple[tuple[int, float], ...]:
    """Read {"token_id:7": -0.1}, most likely first."""
    pairs = [(int(name.removeprefix(_ID)), float(value)) for name, value in members.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))


class EventReader:
    """The `data:` payloads of an event stream, as its bytes come in.

    Lines end at LF or CRLF only: JSON may hold what other line ends are made of.
    """

    MAX_LINE = 1 << 20
    """Bytes; an event holds some tokens and their log-probabilities."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that are complete now.

        Raises:
            UpstreamFailed: a line without end.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self.MAX_LINE:
            raise UpstreamFailed("an event longer than any completion's")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
