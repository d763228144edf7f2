"""Pre-training: flags, encoder, teacher and trainer.

Read `arguments.py`, then `trainer.py`, whose first lines say what it adds to the Trainer of transformers and where;
`checkpointing/` and `monitoring/` hold what it calls.
"""
