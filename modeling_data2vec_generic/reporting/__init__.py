"""Reports of finished runs for people to read: model cards, predictions, comparisons, and their figures.

For pre-training, read `pictures.py`, `run_report.py` and then `model_card.py`; for fine-tuning, `finetuning.py`. Both
use `figures/`.
"""
