"""Text, and proteins, which are text of amino acids.

Read `modality.py` first. `tokenizer.py` and `amino_acids.py` make tokenizers, `tokens.py` sequences, `words.py`
sequences whose words are known, `collator.py` batches.
"""
