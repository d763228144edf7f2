"""Which positions the student does not see.

Read `shapes.py` (the masks of the papers as pure functions), then `sampler.py` (masks as users choose them);
`sample_rng.py` gives every sample random numbers of its own.
"""
