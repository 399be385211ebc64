"""The client's side: trust, node choice, wallet, encapsulation, and the local proxy."""
