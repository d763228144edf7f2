"""Rows that cannot be used: found, left out or replaced, counted and named, for all kinds of data alike.

Read `screening.py` first (what is looked at before the first step), then `reading.py` (what is found when samples are
read) and `bad_rows.py` (the list of all of them).
"""
