"""What is looked at in each kind of data, and which encoder reads it.

Each file has a function `look`, which describes the training rows by some of them, and a function `plan`, which is
given this description and chooses the encoder and what it reads. They are found by the name of the kind.
"""
