"""NVIDIA GPUs: signed reports, reference measurements, revocation, and what a policy demands.

    reader      bounded, strict reading of bytes
    opaque      what a GPU states of itself in a report's opaque data
    report      an SPDM 1.1 measurements exchange, parsed to its last byte
    firmware    the firmware id in a GPU's certificate
    verify      a report's signature, up to the pinned root
    rim         a reference integrity manifest: signed golden measurements
    compare     a report's measurements against the manifests of its driver and VBIOS
    ocsp        a stapled OCSP response
    policy      what is accepted
    node        all GPUs of a node together

What a report cannot show is said in `policy`.
"""
