"""Token ids in, token ids out: the inference engine, split into a trusted and an untrusted side."""
