"""How much of the model's greedy answers its draft foresees, as speculative sampling needs it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.tinychat.chat import prompt
from engine.tinychat.dialogue import Dialogue
from engine.tinychat.evaluate import LONGEST_ANSWER, Loaded, Score

_BATCH = 64


def acceptance(main: Loaded, draft: Loaded, asked: Sequence[Dialogue]) -> Score:
    """Return how many tokens of the greedy answers are the draft's most likely ones too.

    Every token is judged after the model's own tokens before it, so the share is the chance that
    one proposed token is accepted.
    """
    ordered = sorted(map(prompt, asked), key=len)
    batches = [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]
    found = [_foreseen(main, draft, batch) for batch in batches]
    return Score(sum(one.right for one in found), sum(one.asked for one in found))


def _foreseen(main: Loaded, draft: Loaded, prompts: Sequence[str]) -> Score:
    tokens = main.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.inference_mode():
        ids = main.model.generate(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
        )
        start = tokens.input_ids.shape[1]
        mask = torch.cat([tokens.attention_mask, torch.ones_like(ids[:, start:])], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        guesses = draft.model(input_ids=ids, attention_mask=mask, position_ids=positions)
    said, guessed = ids[:, start:], guesses.logits[:, start - 1 : -1].argmax(-1)
    counted = _up_to_the_end(said, main.tokenizer.eos_token_id)
    return Score(int(((said == guessed) & counted).sum()), int(counted.sum()))


def _up_to_the_end(said: Tensor, end: int) -> Tensor:
    """Return which tokens belong to the answers, the first `end` of each included."""
    ended = (said == end).cumsum(dim=1)
    return (ended == 0) | ((ended == 1) & (said == end))
