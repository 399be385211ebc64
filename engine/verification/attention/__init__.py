"""How T checks what U says attention gave.

prompt.py   a prompt's rows, from keys and values that T keeps while the prompt is computed
running.py  decoding, by sketches of what was kept: no cache in T
sketched.py both, as the verifier calls them
split.py    decoding over a cache that is partly in T
ship.py     a prompt's rows from scores that U ships (the paper's way)
overlap.py  transfer, device and check at the same time, block by block
"""
