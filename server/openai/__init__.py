"""The OpenAI surface of a worker: a request body in, completion payloads out, inside one capsule."""
