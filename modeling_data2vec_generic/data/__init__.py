"""From the flags to rows of raw data, for all kinds of data alike; `modalities/` then turns rows into samples.

Read `kinds_of_data.py` and `arguments.py` first, then `sources/` (which uses `folders/` and `tables/`), then
`quality/` (bad rows are left out), `streams/` (--streaming) and `summary.py` (what is logged about the
data).
"""
