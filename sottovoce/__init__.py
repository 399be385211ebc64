"""The front door: the command line, and every party on one machine."""

__version__ = "0.1.0"
