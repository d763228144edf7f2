"""Masks: which positions the student has to predict.

Read `shapes.py` first (the masks of the papers as pure functions), then `sampler.py` (the flags, and the masks of a
batch), then `sample_rng.py` (the random numbers of each sample).
"""
