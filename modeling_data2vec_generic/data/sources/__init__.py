"""Where rows come from: built-in data, folders, files, the Hub; loaded or streamed.

Read `opening.py` first, then `loaded.py` and `streamed.py`; all of them give columns the names of `columns.py`.
"""
