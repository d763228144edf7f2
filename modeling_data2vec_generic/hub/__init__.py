"""Pushes what a run saved to the Hugging Face Hub: access, layout of the repository, card. Start with `push.py`."""
