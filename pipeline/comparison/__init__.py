"""The stage `compare`: all methods on the same test rows, and what that says."""
