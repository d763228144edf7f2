"""`data2vec capabilities`: what can be done with each type of encoder."""

from ..capabilities.__main__ import main

__all__ = ["main"]
