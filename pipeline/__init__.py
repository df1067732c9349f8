"""Features → answers: prepare, train heads, fine-tune, compare, report.

Knows of a network what `features` says of it; `features` knows nothing of this package.
"""
