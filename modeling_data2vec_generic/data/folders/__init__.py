"""Reads folders of images, sound or clips.

Read `loading.py` first (from a folder to rows), then `listing.py` (which files there are), `splits_and_classes.py`
(what the names of subfolders mean), `metadata.py` (tables that name files) and `clips.py` (folders of frames).
"""
