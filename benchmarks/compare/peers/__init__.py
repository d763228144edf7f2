"""What data2vec is compared with: classes of transformers, trained by its Trainer with the settings of its scripts.

Each module has functions that train one contender to a plain encoder folder, by `train_peer` of `training.py`.
"""
