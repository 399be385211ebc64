"""Intel's evidence: DCAP quotes of TDX trust domains (versions 4 and 5) and SGX enclaves (3)."""
