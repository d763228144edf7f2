"""Metrics of rows that have a number.

Each file is one metric.
"""
