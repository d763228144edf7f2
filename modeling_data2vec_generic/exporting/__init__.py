"""Export: the encoder of a run in the forms that other programs load, as `data2vec export` and `export` write it.

Read `exporter.py` first: it loads an encoder (`loading.py`), and hands it to one of the other files, each of which
writes one or two formats.
"""
