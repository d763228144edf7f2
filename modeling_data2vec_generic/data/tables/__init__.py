"""Reads the rows of csv, tsv, json, jsonl, parquet, txt and FASTA files.

Read `formats.py` first (a class for each format), then `records.py` (csv and JSON line by line), `value_types.py` (the
types of their values) and `fasta.py`.
"""
