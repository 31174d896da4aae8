"""Retrieval report: tables, figures and result files of a trained head."""
