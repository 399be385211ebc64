"""TPM 2.0 evidence: quotes, event logs, and the virtual TPMs of Azure and Google."""
