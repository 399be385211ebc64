"""KV that waits outside the device: sealed on the way, sealed at rest, and back without computing.

    units            a block of the pool as units that are sealed each
    device_memory    the device's end of the way
    queue            which unit comes back next: what the scheduler is going to do
    stay             one sequence's units while they are outside
    offload          the host's end: leave, expect, come back, forget
    assemble         both ends, for an engine

`docs/encrypted_pipeline.md` says what holds.
"""
