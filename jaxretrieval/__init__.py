"""Zero-shot cross-lingual image retrieval from frozen features.

`losses`, `mining` and `recall` need numpy and jax alone; import them from here:
`from jaxretrieval import losses`.
"""
