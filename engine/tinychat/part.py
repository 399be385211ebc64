"""Which part of the wordings, number pairs and topics a dialogue may be drawn from."""

from __future__ import annotations

from enum import Enum


class Part(Enum):
    """TRAINING and HELD_OUT share moulds but no wording; UNFAMILIAR has moulds of its own.

    HELD_OUT is the tenth of the wordings and of the number pairs that training never sees;
    UNFAMILIAR are sentences built, and topics named, unlike anything in training. The values are
    the headings of the model card.
    """

    TRAINING = "fresh"
    HELD_OUT = "held out"
    UNFAMILIAR = "unfamiliar"
