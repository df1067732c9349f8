"""What accuracy is, how sure it is, and what it is better than: NumPy and scipy alone."""
