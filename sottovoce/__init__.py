"""The front door: the command line, and every party on one machine."""
