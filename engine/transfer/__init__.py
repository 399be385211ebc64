"""The encrypted pipeline: transfers to and from a device, sealed ahead of their need.

    frame, session       one transfer's bytes; the keys and the strict counter of a direction
    blocks               data with versions, whose every write is noticed
    predict, staging     which block goes next; sealing it before it is asked for
    sender, receiver, channel    a direction's two ends, and the two directions together
    link, cuda_link      the way to the device
    store                data at rest, under a key that dies with its request

`docs/encrypted_pipeline.md` states the algorithm and what must hold.
"""
