"""Fine-tuning an encoder on a labelled task, and comparing the result with other ways of using it.

Read `tasks/base.py` first, then `labelled_rows.py`, `models.py`, `comparison.py` and `trainer.py`, in the order of a
run. `labels/`, `metrics/` and `optimization/` are what the tasks and the trainer use.
"""
