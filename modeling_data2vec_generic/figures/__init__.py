"""Figures, drawn with matplotlib from plain arrays and names; nothing here knows the rest of the package.

Read `drawing.py` first. `curves.py` is for the log of a run, `features.py` for what an encoder makes of samples,
`predictions.py` for fine-tuning; `samples.py` draws samples of all kinds, and `fonts.py` finds fonts that have the
letters of class names and texts.
"""
