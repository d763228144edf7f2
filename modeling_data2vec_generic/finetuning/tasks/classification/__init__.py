"""A class, several classes or a number for each row, for all kinds of data.

Read `base.py` first; the other files say what differs for one kind.
"""
