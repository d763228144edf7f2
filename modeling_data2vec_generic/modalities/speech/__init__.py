"""Sound.

Read `modality.py` first. `waveforms.py` checks and decodes, `mpeg.py` mends what MP3 files say of their length,
`collator.py` makes batches.
"""
