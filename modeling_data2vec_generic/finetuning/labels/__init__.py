"""What rows are to be given: classes, numbers, texts.

Read `targets.py` first; `units.py` is for numbers and `transcripts.py` for speech recognition.
"""
