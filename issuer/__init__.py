"""The token issuer and the spent-token store: know accounts, never requests."""
