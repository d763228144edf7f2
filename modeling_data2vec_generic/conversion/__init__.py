"""Checkpoints of fairseq and data2vec-pytorch become folders that `AutoModel` loads.

`converting.py` does it, step by step; `checkpoints.py` reads a file without running anything in it, and `formats/`
holds what is known of each kind of checkpoint: names of weights, settings, classes.
"""
