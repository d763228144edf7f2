"""Metrics of transcripts, for speech recognition.

Each file is one metric; they can be read in any order.
"""
