"""Reads the rows of csv, tsv, json, jsonl, txt, FASTA and parquet files, also compressed, and cuts them into pieces.

Read `table.py` first (what all formats have in common), then `opening.py` (which format a file has) and the formats:
`untyped/` (csv and JSON), `parquet.py`, `lines.py` and `fasta.py` (text). `building.py` makes data sets of the rows.
"""
