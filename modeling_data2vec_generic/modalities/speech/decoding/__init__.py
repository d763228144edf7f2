"""Reads any part of sound in any kind of file.

Read `sound.py` first (what a source of sound can do), then `sound_files.py`, which chooses a decoder.
"""
