"""Metrics of texts that were heard.

Each file is one metric.
"""
