"""Metrics of classes, for rows, words or pixels.

Each file is one metric; they can be read in any order.
"""
