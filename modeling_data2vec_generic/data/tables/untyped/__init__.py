"""Reads csv and JSON files and WebDataset shards, which do not state the types of their columns.

Read `table.py` first, then `csv_files.py`, `json_files.py` and `tar_shards.py` (their records), and `value_types.py`.
"""
