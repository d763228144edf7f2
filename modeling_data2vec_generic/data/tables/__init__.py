"""Reads the rows of csv, JSON, text, FASTA, parquet, arrow and tar files, also compressed, and cuts them into pieces.

Read `table.py` first (what all formats have in common), then `opening.py`, `finding.py` (which files a flag names) and
`joined.py` (which format a file has), and the formats: `untyped/` (csv, JSON, tar), `columnar.py` (parquet, arrow),
`lines.py` and `fasta.py` (text). `building.py` makes data sets of the rows.
"""
