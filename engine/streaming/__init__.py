"""Models larger than the device: layers cross to it, sealed, before each is used (after FlexGen).

layer       one layer's tensors as one piece of memory, and the places that they are read from
ring        the device's few buffers, and the way to them
model       a torch model whose layers pass through a ring
emulated    what it costs over a link that is computed, not run; labelled so
"""
