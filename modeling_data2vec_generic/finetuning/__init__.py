"""What an encoder is worth on a labelled task: its data, its model, its training, and comparisons.

Read `tasks/` first, then `labelled_rows.py`, `models.py`, `trainer.py` and `comparison.py` in the order of a run.
"""
