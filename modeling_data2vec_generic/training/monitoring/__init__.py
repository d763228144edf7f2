"""What is watched while a model trains.

Read `health.py` first, which takes `vital_signs.py` and asks `verdict.py`; then `bad_steps.py`, about NaN and
infinity.
"""
