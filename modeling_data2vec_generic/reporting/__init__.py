"""Reports of finished runs for people to read: model cards, predictions, comparisons, and their figures.

Read `run_report.py` and then `model_card.py` for pre-training, and `finetuning.py` for fine-tuning. Both use `figures/`.
"""
