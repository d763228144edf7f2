"""Reads folders of images, sound or clips.

Read `loading.py` first (from a folder to rows), then `splits_and_classes.py` (what the names of subfolders mean).
"""
