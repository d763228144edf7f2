"""Transcripts for CTC: normalising them, encoding their characters as labels, and decoding frames and labels."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import Wav2Vec2CTCTokenizer

UNKNOWN, BLANK, WORD_DELIMITER = "[UNK]", "[PAD]", "|"
_UNREADABLE = "\ufffd"  # Unicode's replacement character


def normalized(text: str | None, ignored: Iterable[str], lower_case: bool) -> str:
    """A transcript without the characters in `ignored`, with single spaces between words; "" if there is none."""
    if text is None:
        return ""
    kept = text.translate({ord(character): None for characters in ignored for character in characters})
    words = kept.replace(WORD_DELIMITER, " ").split()
    return " ".join(words).lower() if lower_case else " ".join(words)


def new_tokenizer(transcripts: Iterable[str]) -> Wav2Vec2CTCTokenizer:
    """A tokenizer whose vocabulary is the characters that occur, in the order of their code points.

    Three tokens follow them: the word delimiter, which replaces the space, the unknown character, and the blank, which
    is also the padding.
    """
    characters = sorted({character for text in transcripts for character in text} - {" "})
    vocabulary = [*characters, WORD_DELIMITER, UNKNOWN, BLANK]
    with TemporaryDirectory() as directory:
        file = Path(directory, "vocab.json")
        file.write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(file),
            unk_token=UNKNOWN,
            pad_token=BLANK,
            word_delimiter_token=WORD_DELIMITER,
            bos_token=None,
            eos_token=None,
        )


def frames_needed(labels: Sequence[int]) -> int:
    """The smallest number of frames in which CTC can write these labels.

    That is one frame per label, and a blank between two equal ones.
    """
    return len(labels) + sum(label == following for label, following in zip(labels, labels[1:], strict=False))


def read_frames(tokenizer: Wav2Vec2CTCTokenizer, classes: Iterable[Sequence[int]]) -> list[str]:
    """Decode rows of the best class of each frame to texts (greedy decoding). Negative numbers are padding."""
    blank = tokenizer.pad_token_id
    return [tokenizer.decode([number if number >= 0 else blank for number in row]) for row in classes]


def read_labels(tokenizer: Wav2Vec2CTCTokenizer, labels: Iterable[Sequence[int]]) -> list[str]:
    """Decode rows of labels to transcripts. Negative numbers are padding.

    A character that the tokenizer does not know becomes U+FFFD, which no prediction holds, so that it counts as an
    error.
    """
    texts = []
    for row in labels:
        tokens = tokenizer.convert_ids_to_tokens([number for number in row if number >= 0])
        known = [_UNREADABLE if token == tokenizer.unk_token else token for token in tokens]
        texts.append(str(tokenizer.convert_tokens_to_string(known, group_tokens=False)["text"]))
    return texts


def confusions(labels: list[str], predictions: list[str]) -> Counter[tuple[str, str]]:
    """How often each character was taken for each other one, as (true, predicted).

    "" is the prediction for a character that was left out, and the true character where one was inserted.
    """
    import jiwer  # an extra

    counts: Counter[tuple[str, str]] = Counter()
    aligned = jiwer.process_characters(labels, predictions)
    for label, prediction, chunks in zip(aligned.references, aligned.hypotheses, aligned.alignments, strict=True):
        for chunk in chunks:
            if chunk.type != "equal":
                true = label[chunk.ref_start_idx : chunk.ref_end_idx]
                found = prediction[chunk.hyp_start_idx : chunk.hyp_end_idx]
                counts.update(zip_longest(true, found, fillvalue=""))
    return counts
