"""How a run begins with many rows, and how fast it reads them: what `python -m benchmarks.data --rows N` measures.

Read `tables.py` first.
"""
