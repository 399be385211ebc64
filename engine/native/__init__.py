"""Decoders of the Llama family computed by a small library of our own, for processors with AMX."""
