"""The oblivious relay: sees addresses and ciphertext, forwards bodies and nothing else."""
