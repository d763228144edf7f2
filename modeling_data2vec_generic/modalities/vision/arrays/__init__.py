"""Images that are more than 8-bit grey or RGB: any number of channels, more bits, floating point, numpy files.

Read `scaling.py` first (whether a data set is one of arrays, and how its values are scaled), then `files.py` (which
files hold such images, and how they are decoded), `channels.py` (which axis is the channels) and `array_image.py` (a
decoded image).
"""
