"""Pre-training: flags, encoder, teacher and trainer.

Read `arguments.py`, then `base_trainer.py` and `trainer.py`, whose first lines say what they add to the Trainer of
transformers and where; `checkpointing/`, `monitoring/` and `acceleration/` hold what they call.
"""
