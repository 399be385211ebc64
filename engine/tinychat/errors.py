"""What can go wrong when the model in the box is made.

TinyChatError
+-- WrongCheckpoint   a run would resume under other settings than it began with
+-- NothingTrained    a folder without a checkpoint is to be exported
"""

from __future__ import annotations


class TinyChatError(Exception):
    """Base of the errors of `engine.tinychat`."""


class WrongCheckpoint(TinyChatError):
    """The checkpoint in the folder belongs to other settings."""


class NothingTrained(TinyChatError):
    """The folder holds no checkpoint."""
