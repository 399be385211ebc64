"""The attester's side: quotes of this machine's platform, and bundles made of them."""
