"""One model over several processes of one worker: by tensors, by layers, or by positions.

    rank 0    the engine: T, scheduler, slots; its device is the front of the group (`front`)
    rank 1..  followers: they hear of each order to the device and do their part of it

Ranks are processes on one machine, started by rank 0 before it loads (`launch`) or by `torchrun`.
Nothing leaves the worker: collectives run over the loopback interface, or between GPUs. Every rank
reads and hashes the whole checkpoint by itself, and keeps its part (`part`).
"""
