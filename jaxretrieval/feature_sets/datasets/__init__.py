"""One module for each data set: who says what about which image.

Each has `NAMESPACE`, `LICENCE` (one line), `FILES` (patterns of what it reads)
and `read(source)`, which gives `Captions` for each split.
"""
