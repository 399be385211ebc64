"""The private path inside a Python program, without a proxy.

profile             one file that says whom to believe and where the parties are
session             the path itself, on a thread of its own
httpx_transport     a transport for clients of httpx
httpx2_transport    the same for clients of httpx2, the openai package's among them
openai_clients      the openai package's own classes around it
attestation         what comes back with an answer, typed
"""
