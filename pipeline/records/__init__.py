"""What stages leave, to be read by anyone: no torch, no scikit-learn, and no stage is imported."""
