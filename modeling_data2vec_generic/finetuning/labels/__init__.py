"""The kinds of labels: how each is encoded, and its loss, metrics and predictions.

Read `base_target.py` first, then `single_label.py`, `multi_label.py` and `regression.py` with its `units.py`;
`targets.py` chooses among them. `transcripts.py` is for speech recognition.
"""
