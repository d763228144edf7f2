"""Rows of files: csv, tsv, json, jsonl, parquet, txt and FASTA.

Read `tables.py` first; `records.py` reads csv and JSON, `values.py` tells the types of their values.
"""
