"""What a run leaves behind for a reader: a model card, predictions and comparisons, and the figures in them.

`run_report.py` and `model_card.py` are for pre-training, `finetuning.py` for fine-tuning; both draw with `figures/`.
"""
