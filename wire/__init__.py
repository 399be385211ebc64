"""Bytes in, bytes out: every format that crosses between two parties. No I/O, clock or randomness.

Randomness and time are arguments, so that a published vector replays exactly.
"""
