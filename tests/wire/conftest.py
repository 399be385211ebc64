"""Hypothesis here is deterministic and small: the same inputs on every machine, in seconds."""

from hypothesis import settings

settings.register_profile("wire", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("wire")
