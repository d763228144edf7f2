"""Measurements and checks while a model trains.

Read `health.py` first, which measures `vital_signs.py` and interprets them by `verdict.py`; then `bad_steps.py`, about
NaN and infinity, and `speed.py`, about time and memory.
"""
