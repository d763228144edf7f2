"""Speech and other sound.

Read `modality.py` first, then `waveforms.py` (checks and decodes clips), `mp3.py` (MP3 files with a wrong length),
`collator.py` (makes batches) and `preset.py` (the settings of the objectives).
"""
