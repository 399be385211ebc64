"""Verified compute (after VeriAttn): T checks what U says about every step before an id leaves."""
