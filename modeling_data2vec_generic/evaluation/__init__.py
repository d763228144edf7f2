"""What the features of a frozen encoder are worth, which pre-training, its health and fine-tuning all ask.

`probe.py` is the whole of it: features, nearest neighbours, a linear classifier.
"""
