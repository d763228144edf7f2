"""Time series.

Read `modality.py` first. `windows.py` checks series and cuts them, `collator.py` makes batches.
"""
