"""Images.

Read `modality.py` first. `images.py` checks and decodes, `levels.py` says what is black and white in deep images,
`pixels.py` makes pixel values, `collator.py` batches; `segmentation_labels.py` is for images whose pixels are
labels.
"""
