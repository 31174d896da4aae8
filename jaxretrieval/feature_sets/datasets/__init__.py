"""Data sets: one module each, which reads captions and image names.

Each has `NAMESPACE`, `LICENCE` (one line), `FILES` (glob patterns of the files
that it reads) and `read(source)`, which returns `Captions` for each split.
"""
