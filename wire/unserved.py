"""Paths of OpenAI's API that are not served, and why: worker and proxy say it in the same words.

Most want what a stateless node has not: a memory from one request to the next.
"""

from __future__ import annotations

_NO_MEMORY = (
    "Nothing is stored here: a request is erased when it has been answered. "
    "Send the whole conversation with each request."
)
_NO_FILES = "Nothing is stored here: there are no files, and nothing that works on them later."
_TEXT_ONLY = "Only text is served here, in and out."

_REASONS = (
    ("/v1/chat/completions", _NO_MEMORY),
    ("/v1/responses", _NO_MEMORY),
    ("/v1/conversations", _NO_MEMORY),
    ("/v1/threads", _NO_MEMORY),
    ("/v1/assistants", _NO_MEMORY),
    ("/v1/files", _NO_FILES),
    ("/v1/uploads", _NO_FILES),
    ("/v1/batches", _NO_FILES),
    ("/v1/vector_stores", _NO_FILES),
    ("/v1/containers", _NO_FILES),
    ("/v1/fine_tuning", _NO_FILES),
    ("/v1/evals", _NO_FILES),
    ("/v1/audio", _TEXT_ONLY),
    ("/v1/images", _TEXT_ONLY),
    ("/v1/videos", _TEXT_ONLY),
    ("/v1/realtime", "There are no realtime sessions here: one request, one answer."),
    ("/v1/embeddings", "The models served here write text; none of them makes embeddings."),
    ("/v1/moderations", "The models served here write text; none of them moderates."),
    ("/v1/decisions", "Decisions are not served; ask for JSON of a schema instead."),
    ("/v1/messages", "This is OpenAI's API, not Anthropic's; use /v1/chat/completions."),
)


def reason(path: str) -> str | None:
    """Return why OpenAI's `path` is not served, or not by that method; None for any other path."""
    return next((text for prefix, text in _REASONS if f"{path}/".startswith(f"{prefix}/")), None)
