"""What the log asks of a node before it logs its key document: evidence that verifies.

The log checks the quote, its dates, and that it binds the key document. Whether release, model and
policy are in the log is for every client to check: the log's word on it would prove nothing.
"""

from __future__ import annotations
