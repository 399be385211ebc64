"""One module a sub-command; each turns options into the configuration of one party and runs it."""
