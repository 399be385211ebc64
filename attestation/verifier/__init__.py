"""The verifier's side: evidence and receipts in, results or errors out.

Pure: no network, no threads, no files; the time is an argument, and so are all roots.
"""
