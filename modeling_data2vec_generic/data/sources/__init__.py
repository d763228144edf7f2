"""Where rows come from: built-in data, folders, files and the Hub, all with the same names of columns.

Read `listing.py` first (the sources that the flags name) and `opening.py` (what each is), then `raw_datasets.py`
(loaded before training) and `streamed_source.py` (--streaming), then `columns.py` (names and types of columns) and
`mixing.py` (several sources by weights).
"""
