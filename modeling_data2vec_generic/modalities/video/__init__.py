"""Video: clips as lists of frames.

Read `modality.py` first, then `clips.py` (checks, cuts and decodes clips), `collator.py` (makes batches) and
`preset.py` (the settings of the objectives).
"""
