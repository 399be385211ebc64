"""POST /tokenize and POST /detokenize, in the form that vLLM gave them.

What is counted is what the model would read: a prompt with the tokens that begin a text, a chat
rendered by the model's template. Each answer costs one token, as every request does.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from server.openai import conversation
from server.openai.errors import ContextLengthExceeded, InvalidRequest
from server.openai.fields import Int
from server.openai.messages import Message
from server.openai.model import LoadedModel
from server.openai.models import DocumentPlan
from server.openai.schemas import MAX_TOOLS, ModelFields, Tool

MAX_IDS = 2**20
"""Ids in one request: beyond every context, and written out in about a second."""


class TokenizeRequest(ModelFields):
    """The body of POST /tokenize: a prompt, or a chat."""

    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("prompt_or_messages", "Either prompt or messages is needed.")
        return self


class DetokenizeRequest(ModelFields):
    """The body of POST /detokenize."""

    tokens: Annotated[list[Annotated[Int, Field(ge=0)]], Field(max_length=MAX_IDS)]


def plan_tokenize(model: LoadedModel, request: TokenizeRequest) -> DocumentPlan:
    """Tokenise a prompt or a chat.

    Raises:
        InvalidRequest: the model does not chat, or its template refuses the messages.
        ContextLengthExceeded: they are so long that they are not counted.
    """
    ids = _ids(model, request)
    document: dict[str, Any] = {
        "count": len(ids),
        "max_model_len": model.served.max_model_len,
        "tokens": ids,
        "token_strs": None,
    }
    if request.return_token_strs:
        data = map(model.tokenizer.token_bytes, ids)
        document["token_strs"] = [each.decode(errors="replace") for each in data]
    return DocumentPlan(document)


def _ids(model: LoadedModel, request: TokenizeRequest) -> list[int]:
    context = model.served.max_model_len
    if request.messages is not None:
        return conversation.prompt_ids(
            request.messages,
            request.tools or [],
            template=model.template,
            tokenizer=model.tokenizer,
            form=model.tool_format,
            context=context,
        )
    prompt = request.prompt or ""
    if model.tokenizer.surely_exceeds(prompt, context):
        raise ContextLengthExceeded(context=context, prompt=None)
    if request.add_special_tokens is False:
        return model.tokenizer.encode_rendered(prompt)
    return model.tokenizer.encode(prompt)


def plan_detokenize(model: LoadedModel, request: DetokenizeRequest) -> DocumentPlan:
    """Write ids as text, names of special tokens included.

    Raises:
        InvalidRequest: an id that is none of the model's.
    """
    size = model.served.vocab_size
    if any(token_id >= size for token_id in request.tokens):
        raise InvalidRequest("invalid_value", f"The token ids must be below {size}.", "tokens")
    data = b"".join(map(model.tokenizer.token_bytes, request.tokens))
    return DocumentPlan({"prompt": data.decode(errors="replace")})
