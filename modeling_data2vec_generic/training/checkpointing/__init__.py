"""Runs that may be killed at any moment: whole files, checks before a run goes on, signals, output directories.

Read `staging.py` (files that are whole or not there) first, then `integrity.py` and `same_run.py`, which are asked
before a run is resumed.
"""
