"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from engine.types import Logprobs
from server.openai.budget import check_choices, completion_room, tokens_needed
from server.openai.choices import Answer, ChoicesWriter
from server.openai.errors import ContextLengthExceeded, InvalidRequest
from server.openai.generation import Step
from server.openai.logprobs import TextLogprobs
from server.openai.model import LoadedModel
from server.openai.plan import GenerationPlan, Terms
from server.openai.sampling import sampling_params
from server.openai.schemas import CompletionRequest
from server.openai.text_stream import TextStream
from server.openai.tokenizer import Tokenizer

Json = dict[str, Any]

DEFAULT_MAX_TOKENS = 16  # OpenAI's, for this endpoint


def plan_completion(model: LoadedModel, request: CompletionRequest) -> GenerationPlan:
    """Tokenise and price the prompts of a completion.

    Raises:
        InvalidRequest: it cannot be answered as asked.
    """
    tokenizer, served = model.tokenizer, model.served
    prompts = _prompts(request, tokenizer)
    check_choices(len(prompts) * request.choices)  # before any of them is encoded
    ids = [_ids(prompt, tokenizer, served.max_model_len) for prompt in prompts]
    room = completion_room(
        prompts=[len(each) for each in ids],
        choices=request.choices,
        asked=DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        context=served.max_model_len,
        token_budget=served.token_budget,
    )
    logprobs = -1 if request.logprobs is None else request.logprobs
    terms = Terms(
        prompts=ids,
        choices=request.choices,
        params=sampling_params(
            request,
            defaults=model.defaults,
            vocab_size=served.vocab_size,
            eos_ids=tokenizer.eos_ids,
            max_new_tokens=room,
            logprobs=logprobs,
            prompt_logprobs=logprobs if request.echo else -1,
        ),
        seed=request.seed,
        tokens_needed=tokens_needed(
            sum(map(len, ids)) + len(ids) * request.choices * room, served.token_budget
        ),
        token_budget=served.token_budget,
        new_stream=lambda: TextStream(tokenizer.text_bytes, request.stops),
    )
    echoes = [_Echo(p, i, tokenizer) for p, i in zip(prompts, ids, strict=True)]
    writer = ChoicesWriter(
        TextAnswer(echoes, request.choices, tokenizer, echo=bool(request.echo), top=logprobs),
        len(prompts) * request.choices,
        served.name,
        served.fingerprint,
        request.include_usage,
    )
    return GenerationPlan(terms, writer, streamed=bool(request.stream))


def _prompts(request: CompletionRequest, tokenizer: Tokenizer) -> list[str | list[int]]:
    """The prompts one by one, each a text or ids of the vocabulary."""
    prompt = request.prompt
    several = isinstance(prompt, list) and not isinstance(prompt[0], int)
    prompts: list[Any] = list(prompt) if several else [prompt]
    for each in prompts:
        if not isinstance(each, str) and not all(0 <= i < tokenizer.vocab_size for i in each):
            raise InvalidRequest(
                "invalid_value",
                f"The token ids of a prompt must be below {tokenizer.vocab_size}.",
                "prompt",
            )
    return prompts


def _ids(prompt: str | list[int], tokenizer: Tokenizer, context: int) -> list[int]:
    if isinstance(prompt, str) and tokenizer.surely_exceeds(prompt, context):
        raise ContextLengthExceeded(context=context, prompt=None)
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    if not ids:
        raise InvalidRequest(
            "invalid_value", "This model cannot continue an empty prompt.", "prompt"
        )
    return ids


class _Echo:
    """A prompt as it may be repeated before its completion."""

    def __init__(self, prompt: str | list[int], ids: Sequence[int], tokenizer: Tokenizer) -> None:
        self.text = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        self._ids = ids
        self._tokenizer = tokenizer

    def add_to(self, lists: TextLogprobs, logprobs: Sequence[Logprobs]) -> None:
        """Write the prompt's tokens into the lists of log-probabilities."""
        data = b""
        for token_id, values in zip(self._ids, (None, *logprobs), strict=True):
            name = self._tokenizer.token_bytes(token_id)
            lists.add(name, values, len(data.decode(errors="ignore")))
            data += self._tokenizer.text_bytes(token_id)


class TextAnswer(Answer):
    """The choices of a text completion, those of the first prompt first."""

    id_prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def __init__(
        self, echoes: Sequence[_Echo], choices: int, tokenizer: Tokenizer, *, echo: bool, top: int
    ) -> None:
        self._choices = [
            _Choice(len(echoes[:prompt]) * choices + i, each if echo else None, tokenizer, top)
            for prompt, each in enumerate(echoes)
            for i in range(choices)
        ]

    def entries(self, step: Step) -> list[Json]:
        """The entries of a step: the first of a choice has the echo, the last the reason."""
        return self._choices[step.index].entries(step)

    def whole(self, entries: Sequence[Json]) -> list[Json]:
        """Texts, from the entries of each choice."""
        return [
            _join([entry for entry in entries if entry["index"] == index])
            for index in range(len(self._choices))
        ]


class _Choice:
    """One choice on its way."""

    def __init__(self, index: int, echo: _Echo | None, tokenizer: Tokenizer, top: int) -> None:
        self._index = index
        self._echo = echo
        self._length = 0  # characters given out
        self._lists = TextLogprobs(tokenizer, top) if top >= 0 else None

    def entries(self, step: Step) -> list[Json]:
        entries = []
        if self._echo is not None:
            echo, self._echo = self._echo, None
            if self._lists is not None:
                echo.add_to(self._lists, step.prompt_logprobs)
            entries.append(self._entry(echo.text))
        if step.piece is not None:
            self._add_logprobs(step)
            entries.append(self._entry(step.piece.text))
        if step.finish is not None:
            entries.append(self._entry("", step.finish))
        return entries

    def _add_logprobs(self, step: Step) -> None:
        if self._lists is None or step.piece is None:
            return
        data = b""
        for token, values in zip(step.piece.tokens, step.logprobs, strict=True):
            self._lists.add(token.data, values, self._length + len(data.decode(errors="ignore")))
            data += token.data

    def _entry(self, text: str, finish: str | None = None) -> Json:
        self._length += len(text)
        lists = self._lists.take() if self._lists is not None else None
        return {"index": self._index, "text": text, "logprobs": lists, "finish_reason": finish}


def _join(entries: Sequence[Json]) -> Json:
    """Put the entries of one choice together, as a client would."""
    lists = [entry["logprobs"] for entry in entries if entry["logprobs"] is not None]
    return {
        "index": entries[-1]["index"],
        "text": "".join(entry["text"] for entry in entries),
        "logprobs": _join_logprobs(lists) if lists else None,
        "finish_reason": entries[-1]["finish_reason"],
    }


def _join_logprobs(lists: Sequence[Json]) -> Json:
    return {name: list(chain.from_iterable(each[name] for each in lists)) for name in lists[0]}
