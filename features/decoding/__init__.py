"""What an image file means: which format it is, and its pixels as upright RGB of 8 bits.

Depth, sign, polarity and transparency come from the format's own fields, never
from the decoder's mode alone. What is not known to be read rightly is refused,
in words.
"""
