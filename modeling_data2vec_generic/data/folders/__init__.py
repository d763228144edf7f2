"""Folders of images, sound or clips.

`rows.py` makes rows of them; `arrangement.py` tells splits and classes by the folders in which files lie.
"""
