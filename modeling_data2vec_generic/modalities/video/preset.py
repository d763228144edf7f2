"""The settings for video, which the papers do not have: those for images, without the loss of the CLS token.

VideoMAE has no CLS token.
"""

from dataclasses import replace

from ..vision.preset import PRESETS as IMAGES

PRESETS = {
    "data2vec": IMAGES["data2vec"],
    "data2vec2": replace(IMAGES["data2vec2"], config=IMAGES["data2vec2"].config | {"cls_loss_weight": 0.0}),
}
