"""What is the same for all kinds of data: flags, sources, streams, and what happens to rows that cannot be read.

Read `arguments.py` first, then `sources/` (from a flag to rows), which opens `folders/` and `tables/`;
`screening.py` leaves bad rows out and `summary.py` says so.
"""
