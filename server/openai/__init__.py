"""The OpenAI surface of a worker: a request in, payloads out, inside one capsule."""
