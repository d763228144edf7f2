"""Metrics of numbers, one for each row.

Each file is one metric; they can be read in any order.
"""
