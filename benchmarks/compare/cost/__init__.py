"""What a training step costs, in time, memory and operations, and how that grows.

Read `contenders.py` first, then `measuring.py`; `growth.py` and `processes.py` vary one property, `clusters.py`
computes what several GPUs would need.
"""
