"""From pictures and captions to a feature set; see `python -m`."""
