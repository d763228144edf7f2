"""Comparisons of data2vec with what would be used in its place: `python -m benchmarks.compare TABLE` makes each.

What a table compares, on which data and with which settings, is a class in `tables/`, which fills in `table.Table`.
Read `table.py` first: it says what a run is, what it returns, and what `__main__.py` does with it. Results lie in
`rows/`, one JSON object per line, and `report.py` writes them into `docs/results.md`.
"""
