"""Measures how good the features of a frozen encoder are; used by pre-training, its health check and fine-tuning.

Read `probe.py` first: features, nearest neighbours, and a linear classifier. `feature_view.py` is what pictures show
of features.
"""
