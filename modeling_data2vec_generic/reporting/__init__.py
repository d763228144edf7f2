"""What a run leaves behind for a reader: figures and a model card.

`run_report.py` is for pre-training and `finetuning.py` for fine-tuning; the other files draw and write for them.
"""
