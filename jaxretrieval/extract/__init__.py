"""Extraction of feature sets and image stores from images and captions."""
