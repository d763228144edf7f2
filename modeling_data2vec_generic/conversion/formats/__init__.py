"""What is known of each kind of checkpoint: a file for each, with its names of weights and its settings.

`base_format.py` says what a format consists of; `FORMATS` lists those that are told apart by names of weights.
"""

from . import fairseq_audio, fairseq_data2vec2, fairseq_text, fairseq_vision

FORMATS = (
    fairseq_data2vec2.TEXT,
    fairseq_data2vec2.IMAGE,
    fairseq_data2vec2.AUDIO,
    fairseq_text.FORMAT,
    fairseq_audio.FORMAT,
    fairseq_vision.FAIRSEQ,
    fairseq_vision.BEIT,
)

__all__ = ["FORMATS"]
