"""Techniques for training a pre-trained encoder: learning rates by layer, schedules, mixup and cutmix.

The files do not depend on each other and can be read in any order.
"""
