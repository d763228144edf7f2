"""Classification and regression: a class, several classes or a number for each row, for all kinds of data.

Read `base.py` first. Each of the other files adds what differs for one kind of data.
"""
