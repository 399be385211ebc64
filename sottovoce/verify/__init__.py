"""`sottovoce verify`: evidence, receipts, nodes, logs and policies, judged offline."""
