"""Where rows come from: built-in data, folders, files and the Hub, all with the same names of columns.

Read `opening.py` first (which source the flags name), then `raw_datasets.py` (loaded before training) and
`streamed_source.py` (--streaming), then `columns.py` (names and types of columns).
"""
