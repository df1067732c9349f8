"""Linear heads."""
