"""What the cached features show of the images themselves: for the report."""
