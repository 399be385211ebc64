"""The worker node: the roles of one attested machine, from ciphertext to completion and back."""
