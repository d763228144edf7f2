"""Measures how good the features of a frozen encoder are; used by pre-training, its health check and fine-tuning.

Everything is in `probe.py`: features, nearest neighbours, and a linear classifier.
"""
