"""Images.

Read `modality.py` first, then `images.py` (checks and decodes images), `intensity_levels.py` (black and white in
images with more than 8 bits), `pixels.py` (crops and normalises), `collator.py` (makes batches), `preset.py` (the
settings of the objectives) and, for fine-tuning, `segmentation_labels.py`.
"""
