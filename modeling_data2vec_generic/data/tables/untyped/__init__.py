"""Reads csv and JSON files, which do not state the types of their columns.

Read `table.py` first, then `csv_files.py`, `json_files.py` (their records), and `value_types.py`.
"""
