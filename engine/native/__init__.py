"""Decoders of many families computed by a small library of our own, for processors with AMX."""
