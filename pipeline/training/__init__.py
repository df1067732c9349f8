"""Training the tail of a network: where it is cut, what it is fed, the loop, and how it resumes."""
