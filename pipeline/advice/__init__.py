"""Advice from cached features: what they say of the images, which scenario that is, what each way costs."""
