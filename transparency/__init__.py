"""The append-only log, its witnesses, and the proofs a client demands."""
