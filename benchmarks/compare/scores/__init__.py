"""What an encoder is worth: by labels, in `encoders.py`, and by what its frames of sound tell, in `sound.py`."""
