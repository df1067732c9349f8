"""The stage `train`: choosing among heads on validation rows."""
