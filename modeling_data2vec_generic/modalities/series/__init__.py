"""Time series.

Read `modality.py` first, then `windows.py` (checks series and cuts them into windows), `collator.py` (makes batches)
and `preset.py` (the settings of the objectives).
"""
