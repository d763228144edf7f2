"""Training data that are read while a run trains: shards, the lanes that read around them, and an endless stream.

Read `sample_stream.py` first, then `lanes.py`, then where rows come from (`sharded_rows.py`).
"""
