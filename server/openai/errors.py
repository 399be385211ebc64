"""What a request can be refused with.

    ApiError
    ├── InvalidRequest     400: the body, a field or a combination of fields
    │   └── ContextLengthExceeded   400: prompt and completion do not fit the model's context
    ├── UnknownModel       404
    ├── UnknownPath        404
    ├── WrongMethod        405
    └── EngineFailure      500 or 503: the engine gave up; nothing the client sent is at fault
        └── Unverified     503: what the accelerator computed did not verify

Each is one HTTP status and one OpenAI error object. Every text is ours, built from field names we
know and numbers we computed: no message quotes a value, a member name or a prompt it was given.
"""

from __future__ import annotations

import errno
import json

from engine.errors import EngineGone


class ApiError(Exception):
    """A refusal as the client will read it: HTTP status, error type, code, text and parameter."""

    def __init__(
        self, status: int, type_: str, code: str, message: str, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type_
        self.code = code
        self.message = message
        self.param = param


class InvalidRequest(ApiError):
    """The request is not one that can be answered; sending it again will not help."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(400, "invalid_request_error", code, message, param)


class ContextLengthExceeded(InvalidRequest):
    """Prompt and completion together are longer than the model's context.

    `prompt` is None if the prompt was so long that its tokens were not counted.
    """

    def __init__(self, *, context: int, prompt: int | None, completion: int = 0) -> None:
        needed = (
            "the prompt alone has more."
            if prompt is None
            else f"this request needs {prompt + completion} ({prompt} in the prompt, {completion} "
            "for the completion)."
        )
        super().__init__(
            "context_length_exceeded", f"The model's context is {context} tokens; {needed}"
        )


class UnknownModel(ApiError):
    """The model asked for is not served here."""

    def __init__(self) -> None:
        super().__init__(
            404,
            "invalid_request_error",
            "model_not_found",
            "The model asked for is not served here. GET /v1/models lists the one that is.",
            "model",
        )


class UnknownPath(ApiError):
    """No such endpoint; `reason` says why, if OpenAI has it."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(
            404, "invalid_request_error", "unknown_url", reason or "There is no such endpoint here."
        )


class WrongMethod(ApiError):
    """The endpoint exists and wants another method; `reason` says why OpenAI's is not served."""

    def __init__(self, allowed: str, reason: str | None = None) -> None:
        text = " ".join(filter(None, (f"This endpoint takes {allowed}.", reason)))
        super().__init__(405, "invalid_request_error", "method_not_allowed", text)


class EngineFailure(ApiError):
    """The engine did not finish the request; the client may send it again."""

    def __init__(self, code: str, message: str, *, status: int = 500) -> None:
        super().__init__(status, "server_error", code, message)


class Unverified(EngineFailure):
    """The computation did not verify; the answer says so with a receipt, and may be drawn anew."""

    def __init__(self) -> None:
        super().__init__(
            "verification_failed",
            "The accelerator's computation did not verify. Nothing of it was released.",
            status=503,
        )


def unforeseen(failure: Exception) -> EngineFailure:
    """Return what is told of a failure that nobody foresaw: what ended or ran out, or nothing.

    Whatever else such an exception says may quote the request.
    """
    if isinstance(failure, EngineGone):
        return EngineFailure("engine_gone", "The engine ended.", status=503)
    if isinstance(failure, MemoryError) or getattr(failure, "errno", None) == errno.ENOMEM:
        return EngineFailure(
            "out_of_memory", "The node has no memory left for the request.", status=503
        )
    return EngineFailure("internal_error", "The request failed.")


def error_body(error: ApiError) -> bytes:
    """Encode an error as OpenAI's error object; also the payload of an error inside a stream."""
    members = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    return json.dumps({"error": members}, separators=(",", ":")).encode()
