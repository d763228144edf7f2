"""Whole runs, from their flags to their report, as commands and scripts call them. Start with `pretraining.py`."""
