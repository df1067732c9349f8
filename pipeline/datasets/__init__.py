"""The stage `prepare`: which images there are, what is wrong with some, their labels and splits."""
