"""Text, and proteins as text of amino acids.

Read `modality.py` first, then `tokenizer.py` and `amino_acids.py` (make tokenizers), `tokens.py` (text to sequences),
`collator.py` (makes batches), `preset.py` (the settings of the objectives) and, for fine-tuning, `words.py`.
"""
