"""Clips.

Read `modality.py` first. `clips.py` checks, cuts and decodes, `collator.py` makes batches.
"""
