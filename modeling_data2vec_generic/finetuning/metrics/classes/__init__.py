"""Metrics of rows, words or pixels that have a class.

Each file is one metric.
"""
