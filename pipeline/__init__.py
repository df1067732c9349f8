"""Features → answers: prepare, train heads, fine-tune, compare, report.

Knows nothing of convolutions; `features` knows nothing of this package.
"""
