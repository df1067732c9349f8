"""Images → features: run a frozen network once, keep its activations.

Knows nothing of heads, of the comparison or of DVC, and imports nothing from `pipeline`.
"""
