"""POST /v1/chat/completions."""

from __future__ import annotations

from dataclasses import dataclass

from server.openai import conversation
from server.openai.budget import completion_room, tokens_needed
from server.openai.chat_answer import ChatAnswer
from server.openai.choices import ChoicesWriter
from server.openai.constraints import constraint_of, offered_tools
from server.openai.errors import InvalidRequest
from server.openai.model import LoadedModel
from server.openai.plan import GenerationPlan, Terms
from server.openai.sampling import sampling_params
from server.openai.schemas import ChatRequest
from server.openai.text_stream import TextStream
from server.openai.tokenizer import Tokenizer
from server.openai.tool_format import ToolFormat


@dataclass(frozen=True)
class Conversation:
    """What a chat asks of the engine, and how its text is to be read.

    `form` is how calls of tools are written, if any are offered; `top_logprobs` -1 for none.
    """

    terms: Terms
    form: ToolFormat | None
    top_logprobs: int


def plan_chat(model: LoadedModel, request: ChatRequest) -> GenerationPlan:
    """Plan the answer to a chat.

    Raises:
        InvalidRequest: it cannot be answered as asked.
    """
    _check_modalities(request)
    asked = understand(model, request)
    writer = ChoicesWriter(
        ChatAnswer(request.choices, model.tokenizer, asked.form, asked.top_logprobs),
        request.choices,
        model.served.name,
        model.served.fingerprint,
        request.include_usage,
    )
    return GenerationPlan(asked.terms, writer, streamed=bool(request.stream))


def understand(model: LoadedModel, request: ChatRequest) -> Conversation:
    """Render, tokenise, constrain and price a chat.

    Raises:
        InvalidRequest: it cannot be answered as asked.
    """
    offered = offered_tools(request)
    constraint = constraint_of(model, request, offered)
    ids = conversation.prompt_ids(
        request.messages,
        offered,
        template=model.template,
        tokenizer=model.tokenizer,
        form=model.tool_format,
        context=model.served.max_model_len,
    )
    room = completion_room(
        prompts=[len(ids)],
        choices=request.choices,
        asked=request.max_completion_tokens or request.max_tokens,
        context=model.served.max_model_len,
        token_budget=model.served.token_budget,
    )
    top = (request.top_logprobs or 0) if request.logprobs else -1
    params = sampling_params(
        request,
        defaults=model.defaults,
        vocab_size=model.served.vocab_size,
        eos_ids=model.tokenizer.eos_ids,
        max_new_tokens=room,
        logprobs=top,
        constrained=constraint is not None,
    )
    form = model.tool_format if offered else None
    terms = Terms(
        prompts=[ids],
        choices=request.choices,
        params=params,
        seed=request.seed,
        tokens_needed=tokens_needed(len(ids) + request.choices * room, model.served.token_budget),
        token_budget=model.served.token_budget,
        new_stream=lambda: _text_stream(model.tokenizer, request, form),
        constraint=constraint,
    )
    return Conversation(terms, form, top)


def _check_modalities(request: ChatRequest) -> None:
    if request.modalities and "audio" in request.modalities:
        raise InvalidRequest("unsupported_value", "Only text can be answered.", "modalities")


def _text_stream(tokenizer: Tokenizer, request: ChatRequest, form: ToolFormat | None) -> TextStream:
    """The text of one choice; with tools, special tokens that mark calls are part of it."""
    if form is None:
        return TextStream(tokenizer.text_bytes, request.stops)
    marks = {i for text, i in tokenizer.added.items() if any(text in t for t in form.texts())}

    def text_bytes(token_id: int) -> bytes:
        return (tokenizer.token_bytes if token_id in marks else tokenizer.text_bytes)(token_id)

    return TextStream(text_bytes, request.stops, stops_until=form.sign)
