"""The page at `GET /`: a conversation, and beside it what was checked of it."""
