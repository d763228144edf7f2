"""Figures, drawn with matplotlib from plain arrays and names; nothing here knows the rest of the package.

Read `drawing.py` first. `curves.py` is for the log of a run, `predictions.py` for fine-tuning; `fonts.py` finds fonts
that have the letters of class names and texts.
"""
