"""Evidence: how a node makes it (attester) and how a client judges it (verifier)."""
