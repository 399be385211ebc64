"""Accepted proposals, timed: do they tell what somebody has asked before?"""

from chances import mann_whitney_p

TRIALS = 12


def steps_of(local, prompt):
    """Steps that an answer takes: what an attacker sees of accepted proposals."""
    slot = local.submit(prompt, max_new_tokens=12)
    steps = local.run()
    local.done(slot)
    return steps


def inference_p(local, prompt_ids):
    """p that steps tell a prompt that somebody has asked before from one that nobody has."""
    asked, new = [], []
    for seed in range(TRIALS):
        steps_of(local, prompt_ids(20, seed))
        asked.append(steps_of(local, prompt_ids(20, seed)))
        new.append(steps_of(local, prompt_ids(20, seed + 1000)))
    return mann_whitney_p(asked, new)
