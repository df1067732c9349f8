"""Side-by-side measurements: one command each, each prints a table and `ratio: X` last."""
