"""The stages `weights` and `extract`, and the upkeep of what they make: verify, info, cache."""
