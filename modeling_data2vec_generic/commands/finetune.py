"""`data2vec finetune`: what run_finetune.py does."""

from ..runs.finetuning import main

__all__ = ["main"]
