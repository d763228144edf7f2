"""`data2vec embed`: vectors of rows by a frozen encoder."""

from ..runs.embedding import main

__all__ = ["main"]
