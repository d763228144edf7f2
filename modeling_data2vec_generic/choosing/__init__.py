"""The settings of a run that names neither a recipe nor an encoder, chosen for its data and its device.

Read `constants.py` first: all numbers to tune are there. A file for each kind of data looks at some rows and chooses
what the encoder is and what it reads; `training.py` chooses the rest; `choice.py` puts them together.
"""
