"""`data2vec pretrain`: what run_pretraining.py does."""

from ..runs.pretraining import main

__all__ = ["main"]
