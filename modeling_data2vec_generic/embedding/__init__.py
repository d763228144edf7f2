"""Vectors of rows by a frozen encoder, computed piece by piece, so that memory does not grow with the number of rows.

Read `arguments.py` first (what can be chosen), then `sources.py` (rows), `reading.py` (their batches), `encoding.py`
(the vectors of a batch), `pieces.py` (what is on the disk until all are there) and `outputs.py` (the file at the end).
"""
