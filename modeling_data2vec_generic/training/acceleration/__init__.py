"""How a step runs on the hardware: on several processes, in half precision, with a compiled student.

Each file can be read by itself; `global_batch.py` makes a step of several processes that of one process.
"""
