"""Runs that may be killed at any moment: whole files, checks before a run goes on, signals, output directories.

Read `staging.py` (files that are whole or absent) first, then `interruption.py` (the callbacks), then `integrity.py`
and `same_run.py`, which check a checkpoint before a run is resumed.
"""
