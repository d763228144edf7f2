"""What data2vec can do with each encoder type of transformers, found out by building a small one and measuring it.

python -m modeling_data2vec_generic.capabilities vit                          # one type
python -m modeling_data2vec_generic.capabilities                              # the whole table
python -m modeling_data2vec_generic.capabilities --write docs/backbones.md    # the table, put into a file

Read `encoder_types.py` (one row for each type), `small_encoders.py` (a small encoder made from a row), `survey.py`
(what is found out about it) and `rendering.py` (the text and the table); `__main__.py` is the command.
"""

from .encoder_types import ENCODER_TYPES, SETTINGS
from .rendering import BEGIN, END, as_table, as_text, whole_table, written
from .small_encoders import random_encoder, small_config, small_encoder
from .survey import Capability, capability_of

__all__ = [
    "BEGIN",
    "ENCODER_TYPES",
    "END",
    "SETTINGS",
    "Capability",
    "as_table",
    "as_text",
    "capability_of",
    "random_encoder",
    "small_config",
    "small_encoder",
    "whole_table",
    "written",
]
