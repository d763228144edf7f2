"""The tokenizer of proteins, with one token per amino acid."""

import tempfile
from pathlib import Path

from transformers import EsmTokenizer
from transformers.models.esm.configuration_esm import get_default_vocab_list


def amino_acid_tokenizer() -> EsmTokenizer:
    """The tokenizer of the ESM models: 33 tokens, one for each amino acid, with <cls> and <eos> around a sequence.

    Other letters become <unk>.
    """
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder, "vocab.txt")
        vocabulary.write_text("\n".join(get_default_vocab_list()), encoding="utf-8")
        return EsmTokenizer(str(vocabulary))
