"""Benchmarks: what a goal promises, measured by one command.

    line.py        one result: a JSON object a line
    shown.py       results as a program or a person reads them
    wire.py        `bench wire`: opening, sealing, signing, redeeming, relaying
    path.py        `bench path`: the whole path against the same worker's application in the clear
    stack.py       every party as a process, the worker with a plain face beside its gateway
    plain_face.py  that face: HTTP in the clear, the same application, the same engine
    load.py        many streams at once, by a client too small to be what is measured
    cost.py        processor time of processes, from /proc

Nothing in `server/` knows of any of this.
"""
