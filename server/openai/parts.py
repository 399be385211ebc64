"""A step's text as parts of a message: content, or calls of tools."""

from __future__ import annotations

from server.openai.generation import Step
from server.openai.tool_format import Content, Part, ToolReader


def parts_of(step: Step, reader: ToolReader | None) -> list[Part]:
    """Return what a step adds to a message; without a reader of calls, all of it is content."""
    text = step.piece.text if step.piece else ""
    if reader is None:
        return [Content(text)] if text else []
    parts = reader.feed(text)
    return parts + reader.finish() if step.finish is not None else parts
