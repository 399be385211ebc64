"""AMD SEV-SNP: the attestation report, its chain to AMD's roots, and what to demand of both."""
